"""Values of a request whose type is not OpenAI's and whose meaning is plain: `10.0` for a whole number, `123` for a
text. Clients in languages that know one kind of number send them. Pure; looked at only once a request has been refused.
"""

from typing import Any

import msgspec
from msgspec import Raw

from app.proxy.relay.dialects.openai_limits import LIMITS

__all__ = ["take_as_meant"]

_WHOLE = (*LIMITS, "n", "seed")
_TEXTS = ("user",)
_EXACT_BELOW = 2**53  # a float beyond it may be another number than the one that was sent

_encode = msgspec.json.Encoder().encode


def take_as_meant(fields: dict[str, Raw]) -> bool:
    """Writes such values as OpenAI has them; whether there were any. A fraction, and a text for a number, stay."""
    meant: dict[str, Raw] = {}
    for name in _WHOLE:
        value = _number(fields, name)
        if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_BELOW:
            meant[name] = Raw(_encode(int(value)))
    for name in _TEXTS:
        value = _number(fields, name)
        if isinstance(value, int) and not isinstance(value, bool):
            meant[name] = Raw(_encode(str(value)))
    fields.update(meant)
    return bool(meant)


def _number(fields: dict[str, Raw], name: str) -> Any:
    """None where there is none that can be read."""
    if name not in fields or bytes(fields[name])[:1] not in b"-0123456789":
        return None
    try:
        return msgspec.json.decode(fields[name])
    except msgspec.DecodeError:  # out of range
        return None
