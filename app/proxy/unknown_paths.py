"""Paths below `/v1` that are none: an error that OpenAI's clients can read, with a request's id."""

from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

from app.base.errors import InternalError, NotFound, TollgateError
from app.base.ids import new_request_id
from app.proxy.door import show_error

__all__ = ["is_for_customers", "show_unknown"]

_PATH_MOST = 200


def is_for_customers(path: str) -> bool:
    return path == "/v1" or path.startswith("/v1/")


def show_unknown(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """An exception handler for requests that no handler of customers' took."""
    known = _known(request, error)
    headers = {name.decode(): value.decode() for name, value in known.headers}
    return Response(
        msgspec.json.encode(show_error(known)),
        status_code=known.status,
        media_type="application/json",
        headers={**headers, "x-request-id": new_request_id()},
    )


def _known(request: Request[Any, Any, Any], error: Exception) -> TollgateError:
    if isinstance(error, TollgateError):
        return error
    if not isinstance(error, HTTPException) or error.status_code not in (404, 405):
        return InternalError()
    unknown = NotFound(f"There is no `{request.method} {request.url.path[:_PATH_MOST]}` here.")
    unknown.status = error.status_code
    unknown.code = "unknown_url"
    return unknown
