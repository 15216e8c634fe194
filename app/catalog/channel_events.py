"""What happened to channels: every change of one, with its reason and who made it. Only ever added to."""

import secrets
from collections.abc import Iterable
from typing import Any, Literal, get_args

import msgspec
from sqlalchemy import Row, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import iso, now_ms
from app.base.ids import made_at_ms
from app.catalog.tables import channel_events

__all__ = [
    "KINDS",
    "Actor",
    "ChannelEvent",
    "Kind",
    "add_event",
    "add_events",
    "last_event",
    "list_events",
    "new_event",
]

# By operators: created to resumed; by traffic and tests, mostly of one credential: opened to test_passed; the house
# itself finds that a drain has ended, and that a vendor's balance is low; settlement, that a vendor's figures for a
# request were more than it could cost.
Kind = Literal[
    "created",
    "changed",
    "draining",
    "resumed",
    "opened",
    "half_open",
    "closed",
    "cooling",
    "parked",
    "returned",
    "test_failed",
    "test_passed",
    "drained",
    "balance_low",
    "usage_beyond_bound",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
Actor = Literal["operator", "traffic", "schedule"]

_PREFIX = "evt"
_REASON_MOST = 1000
_AHEAD_MOST_MS = 10_000


class ChannelEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One change. `credential_id` and `model` are those it is about, None where it is the whole channel."""

    id: str
    channel_id: str
    kind: Kind
    reason: str
    actor: Actor
    credential_id: str | None = None
    model: str | None = None

    @property
    def at_ms(self) -> int:
        """Its id tells: an event may be written later than it happened."""
        made = made_at_ms(self.id)
        assert made is not None
        return made


class _Ids:
    """Of events, in the order in which they happen to this process, also within a millisecond."""

    def __init__(self) -> None:
        self._last_ms = 0

    def next(self) -> str:
        now = now_ms()
        is_behind = 0 <= self._last_ms - now < _AHEAD_MOST_MS  # by more, it is the clock that was put back
        self._last_ms = self._last_ms + 1 if is_behind else now
        return f"{_PREFIX}_{self._last_ms:012x}{secrets.token_hex(8)}"


_ids = _Ids()


def new_event(channel_id: str, kind: Kind, reason: str, actor: Actor, **about: str | None) -> ChannelEvent:
    """One that happens now. `about` is its credential_id and model."""
    said = reason[:_REASON_MOST].replace("\0", "")  # a vendor's words may hold what PostgreSQL keeps in no text
    return ChannelEvent(id=_ids.next(), channel_id=channel_id, kind=kind, reason=said, actor=actor, **about)


async def add_event(
    db: AsyncConnection, channel_id: str, kind: Kind, reason: str, actor: Actor = "operator", **about: str | None
) -> ChannelEvent:
    """For changes that are made in a transaction of their own: the event is there if the change is."""
    event = new_event(channel_id, kind, reason, actor, **about)
    await add_events(db, [event])
    return event


async def add_events(db: AsyncConnection, events: Iterable[ChannelEvent]) -> None:
    """May be repeated: an event that is there already stays as it is."""
    rows = [{**msgspec.structs.asdict(event), "created_at_ms": event.at_ms} for event in events]
    if rows:
        dialect_insert = sqlite.insert if db.dialect.name == "sqlite" else postgresql.insert
        await db.execute(dialect_insert(channel_events).on_conflict_do_nothing(), rows)


async def last_event(
    db: AsyncConnection, channel_id: str, credential_id: str | None, kinds: Iterable[Kind], before: str | None = None
) -> ChannelEvent | None:
    """The latest of these kinds that was about this credential, and made before the event `before`."""
    columns = channel_events.c
    query = (
        select(channel_events)
        .where(columns.channel_id == channel_id, columns.kind.in_(list(kinds)))
        .where(columns.credential_id == credential_id)
    )
    if before is not None:
        query = query.where(columns.id < before)
    row = (await db.execute(query.order_by(columns.id.desc()).limit(1))).first()
    return None if row is None else _event(row)


async def list_events(
    db: AsyncConnection,
    *,
    limit: int,
    before: str | None = None,
    channel_id: str | None = None,
    kind: Kind | None = None,
    from_ms: int | None = None,
    to_ms: int | None = None,
) -> list[dict[str, Any]]:
    """Newest first, as they are shown; those made before the event `before`, from `from_ms` on and before `to_ms`."""
    columns = channel_events.c
    query = select(channel_events)
    if channel_id is not None:
        query = query.where(columns.channel_id == channel_id)
    if kind is not None:
        query = query.where(columns.kind == kind)
    # Ids sort by their time, so that bounds of time are bounds of the index that the list is read along.
    if before:
        query = query.where(columns.id < before)
    if to_ms is not None:
        query = query.where(columns.id < _first_id(to_ms))
    if from_ms is not None:
        query = query.where(columns.id >= _first_id(from_ms))
    rows = await db.execute(query.order_by(columns.id.desc()).limit(limit))
    return [_show(_event(row)) for row in rows]


def _first_id(at_ms: int) -> str:
    return f"{_PREFIX}_{max(at_ms, 0):012x}"


def _event(row: Row[Any]) -> ChannelEvent:
    return ChannelEvent(
        id=row.id,
        channel_id=row.channel_id,
        kind=row.kind,
        reason=row.reason,
        actor=row.actor,
        credential_id=row.credential_id,
        model=row.model,
    )


def _show(event: ChannelEvent) -> dict[str, Any]:
    shown = msgspec.structs.asdict(event)
    return {"id": shown.pop("id"), "created_at": iso(event.at_ms), **shown}
