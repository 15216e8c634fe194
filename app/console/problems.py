"""Errors to operators, as RFC 9457 problem details; `param` names the field at fault."""

import logging
import re
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from app.base.errors import InternalError, InvalidField, TollgateError

__all__ = ["show_problem"]

log = logging.getLogger("tollgate.console")

_PATH = re.compile(r"(?P<what>.*?)(?: - at `(?:key in )?\$\.?(?P<path>.*)`)?", re.DOTALL)
_FIELD = re.compile(r"Object (?:missing required|contains unknown) field `(?P<name>.*)`")


def show_problem(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The one exception handler of the control plane."""
    known = _known(error)
    if known.status >= 500 and not isinstance(error, TollgateError):
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    body = {
        "type": "about:blank",
        "title": known.code.replace("_", " ").capitalize(),
        "status": known.status,
        "detail": known.message,
        "code": known.code,
        **({"param": known.param} if known.param else {}),
    }
    headers = {name.decode(): value.decode() for name, value in known.headers}
    return Response(
        msgspec.json.encode(body),
        status_code=known.status,
        media_type="application/problem+json",
        headers=headers,
    )


def _known(error: Exception) -> TollgateError:
    if isinstance(error, TollgateError):
        return error
    if isinstance(error, ValidationException):
        return _invalid(error)
    if isinstance(error, HTTPException):
        shown = TollgateError(str(error.detail))
        shown.status = error.status_code
        shown.code = "not_found" if error.status_code == 404 else "bad_request"
        return shown
    return InternalError()


def _invalid(error: ValidationException) -> InvalidField:
    """Litestar's list of faults: the first is told, in our words."""
    fault: Any = error.extra[0] if isinstance(error.extra, list) and error.extra else {}
    message, path = str(fault.get("message", error.detail)), str(fault.get("key", ""))
    match = _PATH.fullmatch(message)
    if match is not None and match["path"] is not None:
        message, path = match["what"], match["path"]
    if named := _FIELD.fullmatch(message):
        path = f"{path}.{named['name']}" if path and path != "data" else named["name"]
        message = "is required" if "missing" in message else "is not a field here"
    return InvalidField(path or None, message[:1].lower() + message[1:])
