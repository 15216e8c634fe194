"""How soon a way gives its first content, as a decaying average. Pure."""

__all__ = ["Pace"]

# A figure that nothing renews is worth half as much after so long: a slow way is looked at again in time.
_HALF_LIFE_MS = 60_000
# The weight of what was known in a new average: less, the older it is.
_MEMORY = 0.7
_MEMORY_MS = 10_000


class Pace:
    """Of one way, for one model. `looks` counts the requests that are out to find what is not known yet."""

    __slots__ = ("_at_ms", "_learnt_at_ms", "_value_ms", "looks")

    def __init__(self) -> None:
        self._value_ms: float | None = None
        self._at_ms = 0  # since when it decays
        self._learnt_at_ms = 0
        self.looks = 0

    def expected_ms(self, now_ms: int) -> float | None:
        """None: nothing is known."""
        if self._value_ms is None:
            return None
        return float(self._value_ms * 0.5 ** (max(0, now_ms - self._at_ms) / _HALF_LIFE_MS))

    def latest_ms(self) -> int | None:
        """The average, before its decay."""
        return None if self._value_ms is None else round(self._value_ms)

    def begin(self, now_ms: int) -> None:
        """A request is on its way: until it has been answered, the figure counts in full again, so that not all follow
        it to a way that was slow when last seen."""
        self._at_ms = max(self._at_ms, now_ms)
        self.looks += 1

    def end(self) -> None:
        self.looks -= 1

    def learn(self, first_content_ms: int, now_ms: int) -> None:
        if self._value_ms is None:
            self._value_ms = float(first_content_ms)
        else:
            memory = _MEMORY * 0.5 ** (max(0, now_ms - self._learnt_at_ms) / _MEMORY_MS)
            self._value_ms = memory * self._value_ms + (1 - memory) * first_content_ms
        self._learnt_at_ms = now_ms
        self._at_ms = max(self._at_ms, now_ms)
