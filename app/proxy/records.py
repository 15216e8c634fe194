"""What the stages hand to each other: frozen, and complete when handed over."""

import msgspec

from app.base.receipt import Attempt, Status, Usage
from app.catalog.records import Channel, Model
from app.quota.gate import Limits
from app.quota.slots import Slots

__all__ = ["Attempt", "Caller", "Delivered", "Hold", "Model", "Offer", "Order", "Status", "Usage"]


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls: a key, opened. `networks` are kept as (version, first, last) so that a check is two comparisons."""

    account_id: str
    key_id: str
    slots: Slots
    limits: Limits
    models: frozenset[str] | None
    networks: tuple[tuple[int, int, int], ...] | None
    expires_at_ms: int | None


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was read and found sound. `body` is its JSON as sent, field by field."""

    request_id: str
    created_at_ms: int
    dialect: str
    model: str
    stream: bool
    wants_usage: bool  # the client asked for the usage chunk of a stream
    answers: int  # `n`
    output_limit: int | None  # tokens an answer, as the client bounded it
    input_bound: int  # no tokenizer counts more tokens than this
    body: dict[str, msgspec.Raw]
    prompt: tuple[str, ...]  # the texts of the prompt, for an estimate where the vendor sends no usage


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """Money and tokens set aside, and what the limits have left for the `x-ratelimit-*` headers."""

    amount_nano: int
    generation: bytes
    requests_left: int
    requests_reset_ms: int
    tokens_left: int
    tokens_reset_ms: int


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """How the relay ended: what the settlement needs to know. `output` holds the text that reached the customer, kept
    only while the vendor has not sent its usage."""

    status: Status
    http_status: int
    channel: Channel | None
    attempts: tuple[Attempt, ...]
    usage: Usage | None
    finish_reason: str | None
    output: str = ""
    ttft_ms: int | None = None


class Offer(msgspec.Struct, frozen=True):
    """A model on sale and the channels that serve it, in the order to try them."""

    model: Model
    channels: tuple[Channel, ...]
