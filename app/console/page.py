"""The operator's page: no build, nothing loaded from elsewhere. It talks to `/admin/v1` with the key that the operator
types in."""

from pathlib import Path

from litestar import MediaType, Response, get

from app.base.errors import NotFound

__all__ = ["console_asset", "console_page"]

_HERE = Path(__file__).parent
_PAGE = (_HERE / "page.html").read_text()
_ASSETS = {path.name: path.read_text() for path in (_HERE / "assets").iterdir() if path.suffix in (".css", ".js")}
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
_HEADERS = {
    # Statements are opened from here and are pages with a style of their own.
    "content-security-policy": "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self';"
    " connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@get("/console", include_in_schema=False)
async def console_page() -> Response[str]:
    return Response(_PAGE, media_type=MediaType.HTML, headers=_HEADERS)


@get("/console/{name:str}", include_in_schema=False)
async def console_asset(name: str) -> Response[str]:
    """Of those that were there at the start: no name leads anywhere else."""
    text = _ASSETS.get(name)
    if text is None:
        raise NotFound(f"There is no `{name}` here.")
    return Response(text, media_type=_TYPES[name.rpartition(".")[2]], headers=_HEADERS)
