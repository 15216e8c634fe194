"""Errors to operators, as RFC 9457 problem details; `param` names the field at fault."""

import logging
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from app.base.errors import InternalError, InvalidField, TollgateError
from app.base.fields import named_fault

__all__ = ["show_problem"]

log = logging.getLogger("tollgate.console")


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
    if isinstance(error, msgspec.ValidationError):  # a body that a controller reads itself
        return named_fault(str(error))
    if isinstance(error, msgspec.DecodeError):
        return InvalidField(None, f"the body is not valid JSON ({error})")
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
    path = str(fault.get("key", ""))
    return named_fault(str(fault.get("message", error.detail)), "" if path == "data" else path)
