"""What happened to channels, for operators to look at."""

from typing import Annotated

from litestar import Controller, get
from litestar.params import Parameter

from app.base.clock import parse_iso
from app.base.errors import InvalidField
from app.catalog.channel_events import KINDS, list_events
from app.console.office import Office, Page, page_cursor, page_limit, paged

__all__ = ["ChannelEventsController"]


class ChannelEventsController(Controller):
    path = "/"

    @get("/channel-events")
    async def list_all(
        self,
        office: Office,
        channel_id: str | None = None,
        kind: str | None = None,
        since: Annotated[str | None, Parameter(query="from", required=False)] = None,
        until: Annotated[str | None, Parameter(query="to", required=False)] = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> Page:
        """Newest first, from one time on and before another."""
        return await _page(office, channel_id, kind, since, until, cursor, limit)

    @get("/channels/{channel_id:str}/events")
    async def list_of_channel(
        self,
        office: Office,
        channel_id: str,
        kind: str | None = None,
        since: Annotated[str | None, Parameter(query="from", required=False)] = None,
        until: Annotated[str | None, Parameter(query="to", required=False)] = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> Page:
        return await _page(office, channel_id, kind, since, until, cursor, limit)


async def _page(
    office: Office,
    channel_id: str | None,
    kind: str | None,
    since: str | None,
    until: str | None,
    cursor: str | None,
    limit: int | None,
) -> Page:
    wanted = next((each for each in KINDS if each == kind), None)
    if kind is not None and wanted is None:
        raise InvalidField("kind", f"must be one of {', '.join(KINDS)}")
    most = page_limit(limit)
    from_ms, to_ms, before = _time(since, "from"), _time(until, "to"), page_cursor(cursor)
    async with office.database.read() as db:
        found = await list_events(
            db, limit=most + 1, before=before, channel_id=channel_id, kind=wanted, from_ms=from_ms, to_ms=to_ms
        )
    return paged(found, most, lambda event: event["id"])


def _time(sent: str | None, field: str) -> int | None:
    if sent is None:
        return None
    try:
        return parse_iso(sent)
    except (ValueError, OverflowError):
        raise InvalidField(field, "must be an RFC 3339 time or a date") from None
