"""The receipt: the one record that both planes know. The proxy writes it into its shard's stream, as JSON; the ledger
posts it. Fields are only ever added, with a default: a stream may hold receipts of the version before.
"""

from typing import Literal

import msgspec

__all__ = ["Attempt", "Draft", "Receipt", "Status", "Usage", "UsageSource"]

Status = Literal["ok", "failed", "cancelled", "expired"]
UsageSource = Literal["upstream", "estimated", "none"]


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens by class. `input_tokens` counts all of the prompt, cached included; `output_tokens` reasoning included."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try of one channel. `error` is None where it served."""

    channel_id: str
    http_status: int | None
    error: str | None
    duration_ms: int


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What a receipt says before the request has run; kept in its hold, for the sweeper."""

    created_at_ms: int
    dialect: str
    model: str
    stream: bool
    price_version: str


class Receipt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The immutable record of one request, as it goes through the stream of its shard."""

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
