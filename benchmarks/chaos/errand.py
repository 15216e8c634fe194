"""What is handed about in a run: what a client asks for, what it saw of it, and what the upstream says it served."""

from __future__ import annotations

from typing import Literal

import msgspec

FIRST_SERIAL = 100_000  # so that all requests cost about the same: a serial is also their number of output tokens
PROMPT_TOKENS = 23
MODEL = "chaos"
UPSTREAM_MODEL = "chaos-upstream"

Ending = Literal["whole", "refused", "cut"]
Outcome = Literal[
    "answered", "refused", "unavailable", "failed", "cut", "broken", "vanished", "unreachable", "gave up", "open"
]


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """One request. It travels to the upstream as the text of its prompt.

    The upstream says that it took `serial` output tokens, so that a receipt names its request. `leave_after`: the
    client hangs up after so many events of the stream, or (of a plain answer) so many tenths of its time.
    """

    serial: int
    stream: bool
    wait_ms: int
    frames: int = 0
    gap_ms: int = 0
    ending: Ending = "whole"
    leave_after: int | None = None


class Sent(msgspec.Struct, kw_only=True):
    """A request as its client saw it. Times are milliseconds since 1970, on the clock of this machine."""

    errand: Errand
    account_id: str
    key_id: str
    sent_ms: int
    ended_ms: int = 0
    outcome: Outcome = "open"
    status: int = 0
    code: str = ""
    request_id: str = ""
    cost: str = ""
    frames: int = 0
    in_order: bool = True
    first_ms: int | None = None

    @property
    def serial(self) -> int:
        return self.errand.serial


class Served(msgspec.Struct):
    """A request as the upstream saw it: how often it came, was answered to its last byte, and its content frames."""

    seen: int = 0
    whole: int = 0
    frames: int = 0


class Struck(msgspec.Struct, kw_only=True):
    """A fault as it happened; `did` is False where its victim was not there to be hit. `note` says how much one that
    `loses_writes` took from Redis."""

    number: int
    kind: str
    loses: bool
    loses_writes: bool = False
    target: str
    began_ms: int
    ended_ms: int = 0
    did: bool = True
    note: str = ""
