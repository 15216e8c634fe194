"""What msgspec says of a bad value, as an error that names the field."""

import re

from app.base.errors import InvalidField

__all__ = ["named_fault"]

_FAULT = re.compile(r"(?P<what>.*?)(?: - at `(?:key in )?\$\.?(?P<path>.*)`)?", re.DOTALL)
_FIELD = re.compile(r"Object (?P<how>missing required|contains unknown) field `(?P<name>.*)`")


def named_fault(message: str, path: str = "") -> InvalidField:
    """From ``Expected `float` <= 2.0 - at `$.temperature` ``: the path becomes the field. `path` serves where the
    message has none."""
    match = _FAULT.fullmatch(message)
    assert match is not None
    what, path = match["what"], match["path"] or path
    if named := _FIELD.fullmatch(what):
        path = f"{path}.{named['name']}" if path else named["name"]
        what = "is required" if named["how"] == "missing required" else "is not a field here"
    return InvalidField(path or None, what[:1].lower() + what[1:])
