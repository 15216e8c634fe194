"""Waiting for what other processes do."""

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["until"]

T = TypeVar("T")


def until(probe: Callable[[], T], what: str, seconds: float = 5.0) -> T:
    """Asks again and again until the answer is true; says `what` never came about otherwise."""
    deadline = time.monotonic() + seconds
    while not (answer := probe()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain: {what}; last seen {answer!r}")
        time.sleep(0.03)
    return answer
