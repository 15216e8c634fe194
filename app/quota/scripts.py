"""The Lua scripts of this room, read once."""

from pathlib import Path

from app.base.wire import Script

__all__ = [
    "ADMIT",
    "CREDIT",
    "DEBIT",
    "EPOCH",
    "EXTEND",
    "LAPSE",
    "LOOK",
    "OVERDUE",
    "POSTED",
    "REHOLD",
    "RENEW",
    "SEED",
    "SETTLE",
    "USE",
    "WARM",
]


def _script(name: str) -> Script:
    return Script((Path(__file__).parent / f"{name}.lua").read_text())


ADMIT = _script("admit")
EXTEND = _script("extend")
SETTLE = _script("settle")
EPOCH = _script("epoch")
POSTED = _script("posted")
REHOLD = _script("rehold")
CREDIT = _script("credit")
DEBIT = _script("debit")
LAPSE = _script("lapse")
WARM = _script("warm")
LOOK = _script("look")
OVERDUE = _script("overdue")
RENEW = _script("renew")
SEED = _script("seed")
USE = _script("use")
