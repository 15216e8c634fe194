"""What a vendor's status means: ask another channel, or tell the customer. Pure."""

import re

import msgspec

from app.base.errors import VendorRefused
from app.catalog.records import Channel

__all__ = ["is_refusal", "read_refusal", "retry_after_s"]

# The vendor found fault with the request itself: every other vendor would too. Anything else that is not a 200 is this
# channel's trouble, its 401, 402 and 403 included: those are about the operator's credential.
_REFUSALS = frozenset({400, 404, 413, 422})
_MESSAGE_MOST = 2000
_SCRUBBED_MOST = 64 * 1024
_ANY_KEY = re.compile(r"\b(?:sk|key|gsk|xai|AIza)[-_][A-Za-z0-9_*.…-]{6,}")


class _Error(msgspec.Struct):
    message: object = None
    code: object = None
    param: object = None


class _Body(msgspec.Struct):
    error: _Error | str | None = None
    message: str | None = None


def is_refusal(status: int) -> bool:
    return status in _REFUSALS


def read_refusal(status: int, body: bytes, channel: Channel, public_model: str) -> VendorRefused:
    """The vendor's own words, without the operator's secrets: credentials, the channel's name and address, and the
    model's upstream name."""
    try:
        sent = msgspec.json.decode(body, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        sent = _Body()
    error = sent.error if isinstance(sent.error, _Error) else _Error(message=sent.error or sent.message)
    message = error.message if isinstance(error.message, str) and error.message else "The request was refused."
    return VendorRefused(
        status,
        _scrub(message, channel, public_model)[:_MESSAGE_MOST],
        _scrub(error.code, channel, public_model)[:100] if isinstance(error.code, str) else None,
        _scrub(error.param, channel, public_model)[:200] if isinstance(error.param, str) else None,
    )


def retry_after_s(sent: str | None) -> int | None:
    """Seconds of a vendor's Retry-After, where it is a number that makes sense."""
    return min(int(sent), 3600) if sent is not None and sent.isascii() and sent.isdigit() else None


def _scrub(text: str, channel: Channel, public_model: str) -> str:
    text = text[:_SCRUBBED_MOST]  # cut to its final length only after: a secret across the cut would not be known
    for credential in channel.credentials:
        if credential.secret is not None:
            text = text.replace(credential.secret.reveal(), "[redacted]")
    text = _ANY_KEY.sub("[redacted]", text)
    host = channel.base_url.partition("://")[2].partition("/")[0]
    for name, shown in (
        (channel.base_url, "[upstream]"),
        (host, "[upstream]"),
        (channel.id, "[channel]"),
        (channel.name, "[channel]"),
        (channel.models.get(public_model, ""), public_model),
    ):
        if name:
            text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", lambda _, shown=shown: shown, text)  # type: ignore[misc]
    return text
