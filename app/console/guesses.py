"""Guessing the admin key or an operator's token is slowed by address, and in all: a guesser may have many addresses.
Where the misses are used up, the right key is refused as well, or it could still be told from the wrong ones. Only
addresses that a right key came from before go on: nobody elsewhere can lock an operator out."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.base.addresses import neighbourhood
from app.base.guesses import Guesses

__all__ = ["OperatorGuesses"]

Found = TypeVar("Found")

_BURST_IN_ALL = 300
_PER_SECOND_IN_ALL = 5.0
_PLACES_MOST = 10_000
_EVERYWHERE = ""  # no address: one bucket for all


class OperatorGuesses:
    """Counted in this process: a house of several workers allows as many times more."""

    def __init__(self, by_address: Guesses | None = None, in_all: Guesses | None = None) -> None:
        self._by_address = by_address or Guesses()
        self._in_all = in_all or Guesses(burst=_BURST_IN_ALL, per_second=_PER_SECOND_IN_ALL)
        self._familiar: OrderedDict[tuple[int, int] | None, None] = OrderedDict()

    def is_familiar(self, address: str) -> bool:
        """Whether a right key or token came from there, or from its neighbourhood, since this process began."""
        return neighbourhood(address) in self._familiar

    async def attempt(self, address: str, find: Callable[[], Awaitable[Found | None]]) -> Found | None:
        """What `find` finds; None is a miss. Raises RateLimited, before it looks, where too many have missed."""
        if self.is_familiar(address):
            found = await _attempt(self._by_address, address, find)
        else:
            found = await _attempt(self._by_address, address, lambda: _attempt(self._in_all, _EVERYWHERE, find))
        if found is not None:
            self._remember(address)
        return found

    def _remember(self, address: str) -> None:
        place = neighbourhood(address)
        self._familiar[place] = None
        self._familiar.move_to_end(place)
        if len(self._familiar) > _PLACES_MOST:
            self._familiar.popitem(last=False)


async def _attempt(guesses: Guesses, address: str, find: Callable[[], Awaitable[Found | None]]) -> Found | None:
    bucket = await guesses.begin(address)
    missed = False
    try:
        found = await find()
        missed = found is None
    finally:
        guesses.end(bucket, missed=missed)
    return found
