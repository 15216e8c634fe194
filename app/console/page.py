"""The operator's page: one file, no build, nothing loaded from elsewhere. It talks to `/admin/v1` with the key that the
operator types in."""

from pathlib import Path

from litestar import MediaType, Response, get

__all__ = ["console_page"]

_PAGE = (Path(__file__).parent / "page.html").read_text()
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
    " connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@get("/console", include_in_schema=False)
async def console_page() -> Response[str]:
    return Response(_PAGE, media_type=MediaType.HTML, headers=_HEADERS)
