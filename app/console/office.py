"""What the controllers work with, as one dependency; and lists, a page at a time."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from app.base.addresses import Network
from app.base.crypto import Sealer
from app.base.database import Database
from app.base.errors import InvalidField
from app.base.ids import made_at_ms
from app.catalog.records import Channel, Credential
from app.console.guesses import OperatorGuesses
from app.ledger.debits import Taken
from app.quota.wallets import Wallets

__all__ = ["PAGE_MOST", "Office", "Page", "page_cursor", "page_limit", "paged"]

PAGE_DEFAULT = 50
PAGE_MOST = 1000


class Page(msgspec.Struct):
    """One page of a list. `next` is the cursor of the page after it."""

    items: list[Any]
    next: str | None = None


class ProbeChannel(Protocol):
    async def __call__(self, channel: Channel, model: str, /) -> dict[str, object]: ...


class ExplainRoute(Protocol):
    async def __call__(self, key: str, model_name: str, conversation: str | None, /) -> dict[str, Any]:
        """Raises NotFound, UnknownModel."""


class TakeBack(Protocol):
    """Lowers a wallet, once for each idempotency key. Raises InvalidField where that is more than it has free."""

    async def __call__(
        self,
        account_id: str,
        amount_nano: int,
        memo: str,
        idempotency_key: str | None,
        /,
        *,
        corrects: str | None = None,
    ) -> Taken: ...


class Office(msgspec.Struct, frozen=True, kw_only=True):
    """The rooms behind the counter."""

    database: Database
    sealer: Sealer
    wallets: Wallets
    admin_digest: bytes
    guesses: OperatorGuesses
    trusted_proxies: tuple[Network, ...]
    default_base_urls: dict[str, str | None]  # by provider; None: a channel must name its own
    announce: Callable[[str], Awaitable[None]]
    apply_credits: Callable[[str], Awaitable[None]]
    take_back: TakeBack
    verify: Callable[[], Awaitable[Any]]
    probe_channel: ProbeChannel
    explain_route: ExplainRoute
    channel_health: Callable[[], Awaitable[list[dict[str, Any]]]]
    ask_balance: Callable[[Channel, Credential], Awaitable[dict[str, Any]]]
    unpark: Callable[[str, str], None]  # a channel's credential, by their ids


def page_limit(limit: int | None) -> int:
    """Raises InvalidField."""
    if limit is None:
        return PAGE_DEFAULT
    if not 1 <= limit <= PAGE_MOST:
        raise InvalidField("limit", f"must be from 1 to {PAGE_MOST}")
    return limit


def page_cursor(cursor: str | None) -> str | None:
    """Raises InvalidField where it is not a cursor that a page gave."""
    if cursor and made_at_ms(cursor) is None:
        raise InvalidField("cursor", "is not the `next` of a page")
    return cursor


def paged(items: list[Any], limit: int, cursor: Callable[[Any], str]) -> Page:
    """`items` has one more than the page holds, where there is another page."""
    if len(items) <= limit:
        return Page(items)
    return Page(items[:limit], cursor(items[limit - 1]))
