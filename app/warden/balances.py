"""What is left at vendors that can be asked: hourly, kept in Redis for whoever looks, with a warning in time."""

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from itertools import pairwise

import msgspec

from app.base.clock import now_ms
from app.base.wire import Wire
from app.catalog.channel_events import new_event
from app.catalog.records import Channel, Credential
from app.proxy.relay.balance import BALANCES, Balance
from app.warden.house import House, Way
from app.warden.recorder import Recorder

__all__ = ["Balances", "is_low", "read_balances"]

_KEY = b"tollgate:balances"
_EVERY_MS = 3_600_000
_DAY_MS = 86_400_000
_READINGS_MOST = 25


class _Kept(msgspec.Struct, frozen=True):
    """Of one credential: the latest answer, and the amounts of the last day."""

    latest: Balance
    readings: tuple[tuple[int, str], ...] = ()  # ms, amount


_decoder = msgspec.json.Decoder(_Kept)


def is_low(readings: Sequence[tuple[int, str]]) -> bool:
    """Whether what is left would not last as long again as the readings go back, a day at most, by what went
    meanwhile. Credit that came in does not hide what went."""
    amounts = [Decimal(amount) for _, amount in readings]
    spent = sum((max(before - after, Decimal(0)) for before, after in pairwise(amounts)), Decimal(0))
    return bool(amounts) and (amounts[-1] <= 0 or amounts[-1] < spent)


async def read_balances(wire: Wire) -> dict[Way, Balance]:
    """The latest of each channel and credential. Raises ServiceUnavailable."""
    return {way: kept.latest for way, kept in (await _all(wire)).items()}


async def _all(wire: Wire) -> dict[Way, _Kept]:
    found = await wire.call("HGETALL", _KEY)
    kept: dict[Way, _Kept] = {}
    for name, value in zip(found[::2], found[1::2], strict=True):
        channel_id, _, credential_id = name.decode().partition("/")
        kept[channel_id, credential_id] = _decoder.decode(value)
    return kept


class Balances:
    def __init__(
        self,
        house: House,
        wire: Wire,
        recorder: Recorder,
        ask: Callable[[Channel, Credential], Awaitable[Balance]],
    ) -> None:
        self._house = house
        self._wire = wire
        self._recorder = recorder
        self._ask = ask

    async def round(self) -> None:
        """Asks for those that were not asked within the hour, by whichever worker. Raises ServiceUnavailable."""
        known = await _all(self._wire)
        wanted = {
            (channel.id, credential.id): (channel, credential)
            for channel in self._house.channels()
            if channel.enabled and channel.provider in BALANCES
            for credential in channel.ways
            if credential.secret is not None
        }
        for way in known.keys() - wanted.keys():
            await self._wire.call("HDEL", _KEY, "/".join(way))
        for way, (channel, credential) in wanted.items():
            kept = known.get(way)
            if kept is None or now_ms() - kept.latest.at_ms >= _EVERY_MS:
                await self._look(channel, credential, kept)

    async def _look(self, channel: Channel, credential: Credential, kept: _Kept | None) -> None:
        latest = await self._ask(channel, credential)
        readings = kept.readings if kept else ()
        if latest.amount is not None:
            since = latest.at_ms - _DAY_MS
            readings = (*(each for each in readings if each[0] >= since), (latest.at_ms, latest.amount))[
                -_READINGS_MOST:
            ]
            if is_low(readings) and not (kept and is_low(kept.readings)):
                said = f"{latest.amount} {latest.currency} left: less than went in the last day"
                event = new_event(channel.id, "balance_low", said, "schedule", credential_id=credential.id)
                self._recorder.add(event)
        await self._wire.call(
            "HSET", _KEY, f"{channel.id}/{credential.id}", msgspec.json.encode(_Kept(latest, readings))
        )
