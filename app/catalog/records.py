"""The catalogue's records, as the rooms of both planes see them: frozen, and without a database behind them."""

from typing import Any, Literal

import msgspec

from app.base.crypto import Secret
from app.base.limits import NO_LIMITS, Budget, Limits
from app.base.priced_fields import Action, LimitField
from app.catalog.pricing import FREE, Cost, Prices, Sale

__all__ = [
    "NO_MEDIA",
    "Account",
    "Book",
    "Channel",
    "Credential",
    "FieldRules",
    "HeaderRules",
    "ImageTokens",
    "Key",
    "Media",
    "Model",
    "Operator",
    "PriceVersion",
    "Routing",
    "Shaping",
    "Strategy",
    "Timeouts",
    "Tls",
    "VendorLimits",
]

Strategy = Literal["weighted", "latency", "cost", "least_busy"]


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A customer. `book` names the price book that it pays by. One with a parent is a member of it, and either draws on
    its parent's wallet (`shared`) or has one of its own."""

    id: str
    name: str
    book: str
    created_at_ms: int
    parent_id: str | None = None
    wallet: Literal["own", "shared"] = "own"
    limits: Limits = NO_LIMITS
    model_limits: dict[str, Limits] = {}  # by public name
    budgets: tuple[Budget, ...] = ()
    time_zone: str = "UTC"  # IANA's name: where its days begin
    may_issue_keys: bool = False


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A customer key. `models` (names, or patterns with `*`), `allowed_cidrs` and `scopes` are None where anything
    goes. `chain` is its account and those above it, up to the one whose wallet pays; `book` is its account's."""

    id: str
    account_id: str
    book: str
    name: str
    hint: str
    models: tuple[str, ...] | None
    allowed_cidrs: tuple[str, ...] | None
    expires_at_ms: int | None
    limits: Limits
    enabled: bool
    created_at_ms: int
    chain: tuple[Account, ...] = ()
    budgets: tuple[Budget, ...] = ()
    scopes: tuple[str, ...] | None = None
    note: str = ""
    tags: tuple[str, ...] = ()
    owner: str = ""
    may_issue: bool = False  # keys within its own bounds
    issued_by: str | None = None  # the key that issued it
    last_used_at_ms: int | None = None
    last_used_address: str | None = None


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """Who runs the part of the house that is `account_id` and the accounts below it."""

    id: str
    name: str
    account_id: str
    hint: str
    enabled: bool
    created_at_ms: int


class VendorLimits(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a vendor lets one credential use, or what all customers may use of a model; 0 meaning no limit."""

    rpm: int = 0
    tpm: int = 0
    concurrency: int = 0

    def __bool__(self) -> bool:
        return bool(self.rpm or self.tpm or self.concurrency)


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """One of a channel's. `secret` is None for a vendor that wants none."""

    id: str
    secret: Secret | None
    name: str = ""
    weight: int = 1
    limits: VendorLimits = VendorLimits()
    enabled: bool = True


class HeaderRules(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Of an upstream request's headers, names in lower case: `set` replaces, `default` adds where there is none, `drop`
    removes."""

    set: dict[str, str] = {}
    default: dict[str, str] = {}
    drop: tuple[str, ...] = ()


class FieldRules(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The same of its body's fields, by JSON path (RFC 9535: names, indexes and wildcards)."""

    set: dict[str, Any] = {}
    default: dict[str, Any] = {}
    drop: tuple[str, ...] = ()


class Tls(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """`ca_pem` is trusted beside the system's authorities; `identity_pem` is a client certificate with its key."""

    verify: bool = True
    ca_pem: str | None = None
    identity_pem: str | None = None
    min_version: Literal["1.2", "1.3"] | None = None


class Shaping(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a channel changes of each request, and how it reaches its vendor. Kept sealed: all of it may be secret."""

    headers: HeaderRules = HeaderRules()
    params: FieldRules = FieldRules()
    organization: str | None = None
    project: str | None = None
    proxy: str | None = None  # http://, https:// or socks5://, with its user and password
    tls: Tls = Tls()
    http2: bool = False

    def __repr__(self) -> str:
        return "Shaping(…)"


class Timeouts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long a channel may take, in milliseconds, for one attempt.

    `idle_ms` bounds the pauses of an answer that has begun; of a plain one only where the vendor is at `http://`.
    `first_token_ms` bounds the wait for the first content of a stream, and, where the operator has set it, for the
    first byte of a plain answer too: most vendors send a plain answer only when all of it is there.
    """

    connect_ms: int = 5_000
    first_token_ms: int | None = None
    idle_ms: int = 120_000
    total_ms: int = 600_000


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """One way to reach a provider. `models` maps public names to the names of this upstream, and `costs` those to what
    they cost here. `limits` are those of each credential that has none of its own. One that is draining takes no new
    request, and is disabled when its last has ended. `limit_field` is what its vendor reads the bound of an answer in
    (None: the provider's), and `priced_fields` says what becomes of these fields of requests, where that is not what
    `app.base.priced_fields` has."""

    id: str
    name: str
    provider: str
    base_url: str
    credentials: tuple[Credential, ...]
    models: dict[str, str]
    costs: dict[str, Cost]
    timeouts: Timeouts
    priority: int
    weight: int
    enabled: bool
    created_at_ms: int
    shaping: Shaping = Shaping()
    limits: VendorLimits = VendorLimits()
    draining: bool = False
    test_every_s: int | None = None
    limit_field: LimitField | None = None
    priced_fields: dict[str, Action] = {}

    @property
    def ways(self) -> tuple[Credential, ...]:
        """The credentials that may be used, each with its limits; a nameless one where the vendor wants none."""
        if not self.credentials:
            return (Credential(id=self.id, secret=None, limits=self.limits),)
        return tuple(
            each if each.limits != VendorLimits() else msgspec.structs.replace(each, limits=self.limits)
            for each in self.credentials
            if each.enabled
        )


class Routing(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How a model's channels are chosen and tried.

    `sticky` keeps a conversation on one channel: `auto`, where the vendor's prompt cache makes that cheaper. `attempts`
    (None: each channel once) and `deadline_ms` (None: the channels' own timeouts) bound the search for an answer.
    `hedge_ms` is the wait for first content before a second channel is asked beside the first. `retries` are those of
    the last channel left, where its error is brief. `context_fallbacks` are tried where a prompt is too long.
    """

    strategy: Strategy = "weighted"
    sticky: Literal["auto", "on", "off"] = "auto"
    attempts: int | None = None
    deadline_ms: int | None = None
    hedge_ms: int | None = None
    retries: int = 0
    context_fallbacks: tuple[str, ...] = ()


class ImageTokens(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The most tokens that one image can cost, by the `detail` that is asked for. `auto`, none, and any that is not
    known cost the larger of the two."""

    low: int
    high: int


class Media(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The most tokens that one part of each kind can cost; None where the operator has declared no bound."""

    image: int | ImageTokens | None = None
    audio: int | None = None
    file: int | None = None
    video: int | None = None


NO_MEDIA = Media()


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
    routing: Routing = Routing()
    limits: Limits = NO_LIMITS  # of each account's use of it
    total_limits: VendorLimits = VendorLimits()  # of all accounts together
    media: Media = NO_MEDIA

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
    limits: Limits = NO_LIMITS  # of its accounts that have none of their own


class PriceVersion(msgspec.Struct, frozen=True, kw_only=True):
    """Prices as they were set once: a model's own, a book's for it, or what it costs on a channel."""

    id: str
    model: str
    book: str | None
    channel_id: str | None
    prices: Prices
    created_at_ms: int
