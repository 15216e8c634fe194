"""The warden of one worker: it records what this worker finds out, and stands ready to be the one of the house."""

from collections.abc import Callable
from typing import Any, ParamSpec

import msgspec

from app.alerts.courier import Courier
from app.base.clock import now_ms
from app.books import Books
from app.catalog.records import Channel, Credential
from app.proxy.relay.balance import ask_balance
from app.warden.balances import Balances, read_balances
from app.warden.drains import Drains
from app.warden.house import House
from app.warden.lease import Lease
from app.warden.recorder import Recorder
from app.warden.rounds import Rounds
from app.warden.sight import show_balance, show_health
from app.warden.watch import Job, watch

__all__ = ["Warden"]

_LEASE_S = 4.0

P = ParamSpec("P")


class Warden:
    """`record` and `watch` run until cancelled; then `close`. `recorder.heard` takes the changes of this worker."""

    def __init__(self, books: Books, house: House) -> None:
        self._house = house
        self._wire = books.wire
        self._lease = Lease(books.wire, "warden", _LEASE_S)
        self.recorder = Recorder(books.database, _names(house))
        scheduled = msgspec.structs.replace(
            house, park=self._on_schedule(house.park), unpark=self._on_schedule(house.unpark)
        )
        self._rounds = Rounds(scheduled, books.database, books.settings.retest_seconds)
        self._courier = Courier(books.database, books.sealer)
        drains = Drains(house, books.database)
        balances = Balances(house, books.wire, self.recorder, ask_balance)
        self._jobs = (
            Job("alerts", 0.5, self._courier.round),
            Job("tests of channels", 0.5, self._rounds.round),
            Job("drains", 0.5, drains.round),
            Job("balances", 30.0, balances.round),
        )

    async def record(self) -> None:
        await self.recorder.run()

    async def watch(self) -> None:
        try:
            await watch(self._lease, self._jobs)
        finally:
            await self._rounds.close()

    async def close(self) -> None:
        await self._courier.close()
        await self.recorder.close()

    async def look(self) -> list[dict[str, Any]]:
        """How all channels are. Raises ServiceUnavailable."""
        return show_health(self._house.channels(), await self._house.ways(), await read_balances(self._wire), now_ms())

    async def ask_balance(self, channel: Channel, credential: Credential) -> dict[str, Any]:
        return show_balance(await ask_balance(channel, credential))

    def unpark(self, channel_id: str, credential_id: str) -> None:
        """An operator's word."""
        with self.recorder.acting("operator"):
            self._house.unpark((channel_id, credential_id), "an operator returned it")

    def _on_schedule(self, act: Callable[P, None]) -> Callable[P, None]:
        def acting(*args: P.args, **kwargs: P.kwargs) -> None:
            with self.recorder.acting("schedule"):
                act(*args, **kwargs)

        return acting


def _names(house: House) -> Callable[[str], str | None]:
    return lambda channel_id: next((each.name for each in house.channels() if each.id == channel_id), None)
