"""Guessing at the operator API: slowed by address and in all, without locking out who was let in before."""

import httpx
import pytest

from app.base.errors import RateLimited
from app.base.guesses import Guesses
from app.console.guesses import OperatorGuesses
from tests.gateway import ADMIN_KEY
from tests.servers import Fleet


class Desk:
    """Tries keys from addresses. Time stands still: no miss comes back."""

    def __init__(self, by_address: int, in_all: int) -> None:
        self.guesses = OperatorGuesses(
            Guesses(burst=by_address, clock=lambda: 0.0), Guesses(burst=in_all, clock=lambda: 0.0)
        )
        self.looks = 0

    async def attempt(self, address: str, *, right: bool) -> str | None:
        async def find() -> str | None:
            self.looks += 1
            return "remit" if right else None

        return await self.guesses.attempt(address, find)


async def test_an_address_that_missed_too_often_is_refused_whatever_it_sends() -> None:
    """Else the one right key among the wrong ones would be told by its answer."""
    desk = Desk(by_address=3, in_all=100)
    for _ in range(3):
        assert await desk.attempt("192.0.2.1", right=False) is None
    for right in (False, True):
        with pytest.raises(RateLimited):
            await desk.attempt("192.0.2.1", right=right)
    assert desk.looks == 3
    assert await desk.attempt("192.0.2.2", right=True) == "remit"


async def test_many_addresses_together_are_refused_too() -> None:
    """Each guesses once; addresses that a right key came from go on as they were."""
    desk = Desk(by_address=3, in_all=5)
    assert await desk.attempt("198.51.100.7", right=True) == "remit"
    for number in range(5):
        assert await desk.attempt(f"192.0.2.{number}", right=False) is None
    with pytest.raises(RateLimited):
        await desk.attempt("192.0.2.99", right=True)
    assert await desk.attempt("198.51.100.7", right=True) == "remit"


async def test_a_right_key_costs_nothing() -> None:
    """However often it comes."""
    desk = Desk(by_address=1, in_all=1)
    for _ in range(20):
        assert await desk.attempt("192.0.2.1", right=True) == "remit"


async def test_a_look_that_failed_is_no_miss() -> None:
    """The database was away: neither bucket is charged, or an outage would lock operators out."""
    desk = Desk(by_address=1, in_all=1)

    async def fail() -> str | None:
        raise ConnectionError

    for _ in range(3):
        with pytest.raises(ConnectionError):
            await desk.guesses.attempt("192.0.2.1", fail)
    assert await desk.attempt("192.0.2.1", right=True) == "remit"


def test_a_gateway_slows_guessing_of_the_admin_key(fleet: Fleet) -> None:
    """Sixty wrong keys and the sixty-first is a 429, as is the right one from there; another address gets in."""
    gateway = fleet.new("sqlite", TOLLGATE_WORKERS="1", TOLLGATE_TRUSTED_PROXIES="127.0.0.1")
    gateway.start()

    def status(address: str, key: str) -> int:
        headers = {"Authorization": f"Bearer {key}", "X-Forwarded-For": address}
        return http.get("/admin/v1/accounts", headers=headers).status_code

    with httpx.Client(base_url=gateway.url) as http:
        assert status("198.51.100.7", ADMIN_KEY) == 200
        guessed = [status("192.0.2.1", f"wrong-{number}") for number in range(100)]
        assert guessed[:60] == [401] * 60
        assert 429 in guessed[60:]
        assert status("192.0.2.1", ADMIN_KEY) == 429
        for number in range(60):
            assert status("198.51.100.7", f"wrong-{number}") == 401
        assert status("198.51.100.7", ADMIN_KEY) == 200
    gateway.stop()
