"""When keys were last used: written now and then, and nothing of it lost."""

from collections.abc import Sequence

import pytest

from app.base.errors import ServiceUnavailable
from app.proxy.access import LastUse

MINUTE_MS = 60_000
Use = tuple[str, int, str]


class Book:
    """What was written, a list a time, and the clock beside it."""

    def __init__(self) -> None:
        self.writes: list[list[Use]] = []
        self.away = False
        self.now_ms = 10 * MINUTE_MS

    async def __call__(self, uses: Sequence[Use], /) -> None:
        if self.away:
            raise ServiceUnavailable
        self.writes.append(list(uses))


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def last_use(book: Book) -> LastUse:
    return LastUse(book, lambda: book.now_ms)


async def test_a_key_is_written_once_a_minute(book: Book, last_use: LastUse) -> None:
    """The first use soon, then the latest of each minute; another key does not wait for it."""
    for step, address in enumerate(("192.0.2.1", "192.0.2.2", "192.0.2.3")):
        book.now_ms += 10_000 * step
        last_use.note("key_1", address)
        await last_use.write()
    last_use.note("key_2", "192.0.2.9")
    await last_use.write()
    assert [[use[0::2] for use in uses] for uses in book.writes] == [[("key_1", "192.0.2.1")], [("key_2", "192.0.2.9")]]

    book.now_ms += MINUTE_MS
    await last_use.write()
    assert [use[0::2] for use in book.writes[-1]] == [("key_1", "192.0.2.3")]
    await last_use.write()
    assert len(book.writes) == 3


async def test_what_could_not_be_written_waits(book: Book, last_use: LastUse) -> None:
    """And a later use of the same key is not overwritten by it."""
    last_use.note("key_1", "192.0.2.1")
    last_use.note("key_2", "192.0.2.1")
    book.away = True
    await last_use.write()
    last_use.note("key_1", "192.0.2.2")
    book.away = False
    await last_use.write()
    assert [use[0::2] for use in book.writes[0]] == [("key_1", "192.0.2.2"), ("key_2", "192.0.2.1")]


async def test_many_keys_are_written_a_batch_at_a_time_in_one_order(book: Book, last_use: LastUse) -> None:
    """Two workers that write the same rows can't wait for each other in a circle."""
    for number in reversed(range(1200)):
        last_use.note(f"key_{number:04d}", "192.0.2.1")
    await last_use.write()
    assert [len(uses) for uses in book.writes] == [500, 500, 200]
    assert [use[0] for uses in book.writes for use in uses] == [f"key_{number:04d}" for number in range(1200)]


async def test_at_the_end_everything_is_written(book: Book, last_use: LastUse) -> None:
    """Also what was not due yet."""
    for address in ("192.0.2.1", "192.0.2.2"):
        last_use.note("key_1", address)
        await last_use.write(everything=True)
    assert len(book.writes) == 2


async def test_a_clock_that_is_set_back_holds_nothing_up(book: Book, last_use: LastUse) -> None:
    last_use.note("key_1", "192.0.2.1")
    await last_use.write()
    book.now_ms -= 5 * MINUTE_MS
    last_use.note("key_1", "192.0.2.2")
    await last_use.write()
    assert len(book.writes) == 2
