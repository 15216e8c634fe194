"""The receipt: the one record that both planes know. The proxy writes it into its shard's stream, as JSON; the ledger
posts it. Fields are only ever added, with a default: a stream may hold receipts of the version before.
"""

from typing import Literal

import msgspec

from app.base.money import MULTIPLIER_ONE

__all__ = [
    "BOOKKEEPERS",
    "NO_EXTRAS",
    "Attempt",
    "Draft",
    "Ending",
    "Extras",
    "Movement",
    "Policy",
    "Receipt",
    "Status",
    "Usage",
    "UsageSource",
]

# The consumer group of a shard's stream: what it has acknowledged is in the database.
BOOKKEEPERS = b"books"

Status = Literal["ok", "failed", "cancelled", "expired"]
UsageSource = Literal["upstream", "estimated", "none"]
# How a request ended: complete; before any content; in mid-answer, by the vendor, the customer, this gateway's stop or
# the wallet's end; or without a word, its worker gone.
Ending = Literal["finished", "failed", "cut", "client_gone", "interrupted", "out_of_credit", "expired"]
# What an ending costs the customer: what the vendor charges, what was delivered, or nothing.
Policy = Literal["full", "delivered", "free"]


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens by class. `input_tokens` counts all of the prompt, `output_tokens` all of the answer; the others are parts
    of these, and `cache_write_1h_tokens` a part of `cache_write_tokens`."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    image_input_tokens: int = 0
    image_output_tokens: int = 0


class Extras(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What has a price of its own beside the tokens. `service_tier` is the tier that was asked for, or, on a receipt,
    the one that the vendor served; `fields` are names of request fields that are priced by the request, sorted."""

    service_tier: str | None = None
    fields: tuple[str, ...] = ()


NO_EXTRAS = Extras()


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One try of one channel. `error` is None where it served. `cost_nano` is what the vendor charges for it, served or
    not: `usage` and `extras` at the cost prices that `cost_version` names, or the receipt's own where they are None.
    Customers are never charged for one that failed."""

    channel_id: str
    http_status: int | None
    error: str | None
    duration_ms: int
    cost_nano: int = 0
    cost_version: str | None = None
    usage: Usage | None = None
    extras: Extras | None = None


class Draft(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a receipt says before the request has run; kept in its hold, for the sweeper."""

    created_at_ms: int
    dialect: str
    model: str
    stream: bool
    price_version: str
    multiplier: int = MULTIPLIER_ONE
    input_bound: int = 0  # the worst case that is held, in tokens
    output_bound: int = 0
    member_id: str | None = None
    extras: Extras = NO_EXTRAS  # as the request asks for them


class Receipt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The immutable record of one request, as it goes through the stream of its shard. `account_id` is the account that
    pays; `member_id` the one whose key it was, where that is another.

    `usage` and `extras` are what is charged. Where `vendor_excess` is true the vendor's own figures went beyond what
    the request could cost: they stand on the attempt, and the charge ends at the bound.
    """

    request_id: str
    created_at_ms: int
    account_id: str
    key_id: str
    dialect: str
    model: str
    stream: bool
    status: Status
    http_status: int
    price_version: str
    requested_model: str | None = None  # where `model` served in its place
    multiplier: int = MULTIPLIER_ONE  # millionths of the version's prices, as the customer's price book had it
    ending: Ending = "finished"
    policy: Policy = "full"
    amount_nano: int = 0
    upstream_cost_nano: int = 0
    upstream_model: str | None = None
    channel_id: str | None = None
    finish_reason: str | None = None
    usage: Usage = Usage()
    usage_source: UsageSource = "none"
    attempts: tuple[Attempt, ...] = ()
    ttft_ms: int | None = None
    duration_ms: int = 0
    member_id: str | None = None
    extras: Extras = NO_EXTRAS
    vendor_excess: bool = False


class Movement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Money that Redis took from a wallet for another reason than a request; posted from the stream like a receipt,
    once by its id. The stream's entry says the amount beside it."""

    id: str  # of its journal entry
    account_id: str
    kind: Literal["lapse", "adjustment"]
    created_at_ms: int
    memo: str = ""
    lot: str | None = None  # the credit that lapsed
    corrects: str | None = None  # the entry or the request that this puts right
