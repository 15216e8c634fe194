"""Each worker's figures of the ways to vendors, in Redis for whoever asks, and what they come to over all workers.

`{tollgate}:workers`           set of the workers that have written figures
`{tollgate}:figures:<worker>`  its ways, as JSON; it expires where the worker has died
"""

import asyncio
from collections.abc import Iterable
from typing import cast

import msgspec
import redis.asyncio as redis
from redis.exceptions import RedisError

from app.base.clock import now_ms
from app.base.redis import HOUSE
from app.proxy.dispatch.change import Change, WayHealth
from app.proxy.dispatch.health import Health

__all__ = ["STANDING", "Figures", "read_health", "read_standing"]

STANDING = f"{HOUSE}:standing"
_WORKERS = f"{HOUSE}:workers"
_FIGURES = f"{HOUSE}:figures"

_EVERY_S = 1.0
_AT_LEAST_S = 5.0
_EXPIRE_S = 15

_read_change = msgspec.json.Decoder(Change).decode
_read_views = msgspec.json.Decoder(list[WayHealth]).decode


class Figures:
    """One worker's."""

    def __init__(self, client: redis.Redis, health: Health, worker: str) -> None:
        self._client = client
        self._health = health
        self._worker = worker
        self._key = f"{_FIGURES}:{worker}"

    async def keep(self) -> None:
        """Writes them each second in which they change, until cancelled."""
        loop = asyncio.get_running_loop()
        written, written_at = b"", 0.0
        while True:
            figures = msgspec.json.encode([view for view in self._health.view() if _says_something(view)])
            if figures != written or loop.time() - written_at >= _AT_LEAST_S:
                try:
                    await self._client.set(self._key, figures, ex=_EXPIRE_S)
                    await self._client.sadd(_WORKERS, self._worker)
                    written, written_at = figures, loop.time()
                except (RedisError, OSError, TimeoutError):
                    written = b""
            await asyncio.sleep(_EVERY_S)

    async def leave(self) -> None:
        await self._client.delete(self._key)
        await self._client.srem(_WORKERS, self._worker)


async def read_health(client: redis.Redis) -> list[WayHealth]:
    """Every way that anything is known of, over all workers: what is in flight and what failed is summed, first content
    averaged; what holds it back at any of them holds it back. Raises RedisError and OSError."""
    found: dict[tuple[str, str], list[WayHealth]] = {}
    for worker in cast(set[bytes], await client.smembers(_WORKERS)):
        figures = cast(bytes | None, await client.get(f"{_FIGURES}:{worker.decode()}"))
        if figures is None:  # it has died
            await client.srem(_WORKERS, worker)
            continue
        for view in _views_of(figures):
            found.setdefault((view.channel_id, view.credential_id), []).append(view)
    for change in (await read_standing(client)).values():
        if change.until_ms is None or change.until_ms > now_ms():
            found.setdefault((change.channel_id, change.credential_id), []).append(_as_view(change))
    return [_merged(views) for _, views in sorted(found.items())]


async def read_standing(client: redis.Redis) -> dict[str, Change]:
    """By field. Raises RedisError and OSError."""
    found = cast(dict[bytes, bytes], await client.hgetall(STANDING))
    return {field.decode(): change for field, data in found.items() if (change := _change_of(data)) is not None}


def _merged(views: list[WayHealth]) -> WayHealth:
    """`views` of one way. Those of before an operator's change are left out where there are newer ones."""
    stamp = views[0].stamp
    views = [view for view in views if view.stamp == stamp]
    worst = max(views, key=lambda view: ("closed", "open", "half_open").index(view.state))
    errors = [view for view in views if view.last_error_at_ms is not None]
    last = max(errors, key=lambda view: view.last_error_at_ms or 0, default=None)
    cooling: dict[str, int] = {}
    paces: dict[str, list[int]] = {}
    for view in views:
        for model, until_ms in view.cooling.items():
            cooling[model] = max(until_ms, cooling.get(model, 0))
        for model, first_ms in view.first_content_ms.items():
            paces.setdefault(model, []).append(first_ms)
    return WayHealth(
        channel_id=worst.channel_id,
        credential_id=worst.credential_id,
        stamp=stamp,
        state=worst.state,
        open_until_ms=min((view.open_until_ms for view in views if view.open_until_ms is not None), default=None),
        open_reason=_first(view.open_reason for view in (worst, *views)),
        parked=_first(view.parked for view in views),
        cooling=cooling,
        in_flight=sum(view.in_flight for view in views),
        failures=sum(view.failures for view in views),
        requests=sum(view.requests for view in views),
        first_content_ms={model: round(sum(each) / len(each)) for model, each in paces.items()},
        last_error=None if last is None else last.last_error,
        last_error_at_ms=None if last is None else last.last_error_at_ms,
    )


def _as_view(change: Change) -> WayHealth:
    view = WayHealth(channel_id=change.channel_id, credential_id=change.credential_id, stamp=change.stamp)
    match change.kind:
        case "opened":
            view.state, view.open_until_ms, view.open_reason = "open", change.until_ms, change.reason
        case "parked":
            view.parked = change.reason
        case "cooling" if change.model is not None and change.until_ms is not None:
            view.cooling = {change.model: change.until_ms}
    return view


def _says_something(view: WayHealth) -> bool:
    return bool(view.in_flight or view.requests or view.first_content_ms or view.last_error) or not (
        view.state == "closed" and view.parked is None and not view.cooling
    )


def _change_of(data: bytes) -> Change | None:
    """None where another version of Tollgate has written it."""
    try:
        return _read_change(data)
    except msgspec.MsgspecError:
        return None


def _views_of(data: bytes) -> list[WayHealth]:
    try:
        return _read_views(data)
    except msgspec.MsgspecError:
        return []


def _first(values: Iterable[str | None]) -> str | None:
    return next((value for value in values if value), None)
