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


def _script(*names: str) -> Script:
    """One script: the text of these files, in a row."""
    return Script("".join((Path(__file__).parent / f"{name}.lua").read_text() for name in names))


ADMIT = _script("entitled", "admit")
EXTEND = _script("entitled", "extend")
SETTLE = _script("entitled", "settle")
EPOCH = _script("epoch")
POSTED = _script("posted")
REHOLD = _script("entitled", "rehold")
CREDIT = _script("entitled", "credit")
DEBIT = _script("entitled", "debit")
LAPSE = _script("entitled", "lapse")
WARM = _script("entitled", "warm")
LOOK = _script("look")
OVERDUE = _script("overdue")
RENEW = _script("renew")
SEED = _script("seed")
USE = _script("use")
