"""How many connections each address has open to this process. One customer shall not take the places of all."""

from collections.abc import Sequence

from app.base.addresses import Network, is_within, neighbourhood

__all__ = ["Place", "Places"]

Place = tuple[int, int]


class Places:
    """`most` connections an IPv4 address or a /64 of IPv6, 0 for any number. Those within `exempt` are many in one:
    proxies, and this machine's own."""

    def __init__(self, most: int = 0, exempt: Sequence[Network] = ()) -> None:
        self._most = most
        self._exempt = exempt
        self._taken: dict[Place, int] = {}

    def enter(self, address: str) -> tuple[bool, Place | None]:
        """Whether one more may come from there, and what to `leave` once it has ended."""
        if not self._most or is_within(address, self._exempt):
            return True, None
        place = neighbourhood(address)
        if place is None:
            return True, None
        taken = self._taken.get(place, 0)
        if taken >= self._most:
            return False, None
        self._taken[place] = taken + 1
        return True, place

    def leave(self, place: Place) -> None:
        left = self._taken[place] - 1
        if left:
            self._taken[place] = left
        else:
            del self._taken[place]
