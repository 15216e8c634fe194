"""The catalogue's records, as the rooms of both planes see them: frozen, and without a database behind them."""

import msgspec

from app.base.crypto import Secret
from app.catalog.pricing import Prices

__all__ = ["Account", "Channel", "Key", "Model", "Timeouts"]


class Account(msgspec.Struct, frozen=True):
    id: str
    name: str
    created_at_ms: int


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A customer key. `models` and `allowed_cidrs` are None where anything goes; a limit of 0 is none."""

    id: str
    account_id: str
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
    """One way to reach a provider. `models` maps public names to the names of this upstream."""

    id: str
    name: str
    provider: str
    base_url: str
    credentials: tuple[Secret, ...]
    models: dict[str, str]
    costs: dict[str, Prices]
    timeouts: Timeouts
    priority: int
    weight: int
    enabled: bool
    created_at_ms: int


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A public name on sale. Without `prices` it is not sold."""

    name: str
    context_length: int | None
    max_output_tokens: int | None
    description: str
    fallbacks: tuple[str, ...]
    prices: Prices | None
    price_version: str | None
    created_at_ms: int
