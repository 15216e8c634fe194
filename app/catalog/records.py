"""The catalogue's records, as the rooms of both planes see them: frozen, and without a database behind them."""

import msgspec

from app.base.crypto import Secret
from app.catalog.pricing import FREE, Cost, Prices, Sale

__all__ = ["Account", "Book", "Channel", "Key", "Model", "PriceVersion", "Timeouts"]


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A customer. `book` names the price book that it pays by."""

    id: str
    name: str
    book: str
    created_at_ms: int


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A customer key. `models` and `allowed_cidrs` are None where anything goes; a limit of 0 is none; `book` is its
    account's."""

    id: str
    account_id: str
    book: str
    name: str
    hint: str
    models: tuple[str, ...] | None
    allowed_cidrs: tuple[str, ...] | None
    expires_at_ms: int | None
    rpm: int
    tpm: int
    concurrency: int
    enabled: bool
    created_at_ms: int


class Timeouts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long a channel may take, in milliseconds, for one attempt.

    `first_token_ms` bounds the wait for the first content of a stream, and, where the operator has set it, for the
    first byte of a plain answer too: most vendors send a plain answer only when all of it is there.
    """

    connect_ms: int = 5_000
    first_token_ms: int | None = None
    idle_ms: int = 120_000
    total_ms: int = 600_000


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """One way to reach a provider. `models` maps public names to the names of this upstream, and `costs` those to what
    they cost here."""

    id: str
    name: str
    provider: str
    base_url: str
    credentials: tuple[Secret, ...]
    models: dict[str, str]
    costs: dict[str, Cost]
    timeouts: Timeouts
    priority: int
    weight: int
    enabled: bool
    created_at_ms: int


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A public name. Without `prices` only the customers of a book that prices it can buy it."""

    name: str
    context_length: int | None
    max_output_tokens: int | None
    description: str
    fallbacks: tuple[str, ...]
    prices: Prices | None
    price_version: str | None
    created_at_ms: int

    @property
    def free(self) -> bool:
        """Given away: every price of it is zero."""
        return self.prices == FREE


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """A price book: its customers pay `multiplier` millionths of each model's own prices, but for those in `own`."""

    name: str
    multiplier: int
    description: str
    own: dict[str, Sale]  # by model, at multiplier one
    created_at_ms: int


class PriceVersion(msgspec.Struct, frozen=True, kw_only=True):
    """Prices as they were set once: a model's own, a book's for it, or what it costs on a channel."""

    id: str
    model: str
    book: str | None
    channel_id: str | None
    prices: Prices
    created_at_ms: int
