"""Every error Tollgate answers with. Foreign exceptions are turned into one of these at the border where they enter.

TollgateError                   status  type                    code
├── InvalidKey                  401     authentication_error    invalid_api_key
├── Forbidden                   403     permission_error        model_not_allowed | scope_not_allowed | …
├── UnknownModel                404     invalid_request_error   model_not_found
├── NotFound                    404     invalid_request_error   not_found | unknown_url
├── InvalidField                400     invalid_request_error   invalid_value, with `param`
├── Conflict                    409     invalid_request_error   conflict
├── TooLarge                    413     invalid_request_error   request_too_large
├── RateLimited                 429     rate_limit_error        rate_limit_exceeded
├── OutOfCredit                 429     insufficient_quota      insufficient_quota
├── VendorRefused               (its)   invalid_request_error   (the vendor's)
├── NoChannel                   503     server_error            no_available_channel
├── ServiceUnavailable          503     server_error            service_unavailable
│   └── OutcomeUnknown          a call to Redis was cut off: it may have run, or not
└── InternalError               500     server_error            internal_error
"""

from typing import ClassVar

__all__ = [
    "Conflict",
    "Forbidden",
    "InternalError",
    "InvalidField",
    "InvalidKey",
    "NoChannel",
    "NotFound",
    "OutOfCredit",
    "OutcomeUnknown",
    "RateLimited",
    "ServiceUnavailable",
    "TollgateError",
    "TooLarge",
    "UnknownModel",
    "VendorRefused",
]


_SAID_MOST = 500


def _shortened(text: str) -> str:
    """Names and values that a client made up may be megabytes."""
    return text if len(text) <= _SAID_MOST else f"{text[:_SAID_MOST]}…"


class TollgateError(Exception):
    """Root of the tree. `headers` go with the answer; `param` names the field at fault, where there is one."""

    status: int = 500
    type: str = "server_error"
    code: str = "internal_error"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    param: str | None = None
    default_message: ClassVar[str] = "Internal error"

    def __init__(self, message: str | None = None) -> None:
        self.message = message or self.default_message
        super().__init__(self.message)


class InvalidKey(TollgateError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"
    default_message = "Invalid API key"


class Forbidden(TollgateError):
    status = 403
    type = "permission_error"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class UnknownModel(TollgateError):
    status = 404
    type = "invalid_request_error"
    code = "model_not_found"
    param = "model"

    def __init__(self, model: str) -> None:
        super().__init__(f"The model `{model}` does not exist or is not on sale here.")


class NotFound(TollgateError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"


class InvalidField(TollgateError):
    """A value that was sent is malformed or out of range: `field` is its path, such as `messages[0].role`."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_value"

    def __init__(self, field: str | None, problem: str) -> None:
        field = None if field is None else _shortened(field)
        self.problem = _shortened(problem)
        super().__init__(f"Invalid '{field}': {self.problem}." if field else f"Invalid request: {self.problem}.")
        self.param = field


class Conflict(TollgateError):
    status = 409
    type = "invalid_request_error"
    code = "conflict"


class TooLarge(TollgateError):
    status = 413
    type = "invalid_request_error"
    code = "request_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The request body is larger than {limit_bytes} bytes.")


class RateLimited(TollgateError):
    """`retry_after_ms` is exact: a request sent that much later is admitted, if nobody else was quicker."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"

    def __init__(self, message: str, retry_after_ms: int) -> None:
        super().__init__(message)
        seconds = -(-retry_after_ms // 1000)
        self.headers = ((b"retry-after", b"%d" % seconds), (b"retry-after-ms", b"%d" % retry_after_ms))


class OutOfCredit(TollgateError):
    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"
    # The official clients retry a 429 unless told not to: waiting does not bring money.
    headers = ((b"x-should-retry", b"false"),)
    default_message = "The credit left does not cover this request at its worst case. Top up, or ask for fewer tokens."


class VendorRefused(TollgateError):
    """The vendor found fault with the request itself; its words, already scrubbed of the operator's secrets."""

    type = "invalid_request_error"

    def __init__(self, status: int, message: str, code: str | None, param: str | None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code or "invalid_value"
        self.param = param


class NoChannel(TollgateError):
    status = 503
    type = "server_error"
    code = "no_available_channel"
    default_message = "No upstream channel could serve this request. Nothing was charged."

    def __init__(self, retry_after_s: int = 5) -> None:
        super().__init__()
        self.retry_after_s = retry_after_s
        self.headers = ((b"retry-after", b"%d" % retry_after_s),)


class ServiceUnavailable(TollgateError):
    status = 503
    type = "server_error"
    code = "service_unavailable"
    headers = ((b"retry-after", b"1"),)
    default_message = "The service is briefly unavailable. Nothing was charged."


class OutcomeUnknown(ServiceUnavailable):
    """A call to Redis was cut off before its answer came. Only an idempotent call may be repeated."""


class InternalError(TollgateError):
    default_message = "Internal error. It has been logged under this request's id."
