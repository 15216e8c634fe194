"""The Lua scripts of this room, read once."""

from pathlib import Path

from app.base.wire import Script

__all__ = ["ADMIT", "CREDIT", "LOOK", "OVERDUE", "RENEW", "SETTLE", "WARM"]


def _script(name: str) -> Script:
    return Script((Path(__file__).parent / f"{name}.lua").read_text())


ADMIT = _script("admit")
SETTLE = _script("settle")
CREDIT = _script("credit")
WARM = _script("warm")
LOOK = _script("look")
OVERDUE = _script("overdue")
RENEW = _script("renew")
