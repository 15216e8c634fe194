"""What the stages hand to each other: frozen, and complete when handed over."""

from typing import Literal, Protocol

import msgspec

from app.base.limits import Budget, Limits
from app.base.names import Names
from app.base.receipt import NO_EXTRAS, Ending, Extras, Usage
from app.catalog.pricing import Sale
from app.catalog.records import Account, Channel, Credential, Model
from app.quota.gate import NO_ALLOWANCE, Allowance
from app.quota.rules import NO_RULES, Rules, Subject
from app.quota.slots import Slots

__all__ = [
    "BudgetMark",
    "Caller",
    "Delivered",
    "Hold",
    "MarkBudget",
    "MediaPart",
    "Model",
    "Offer",
    "Order",
    "Outcome",
    "Pick",
    "Plan",
    "Try",
    "Usage",
]


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls: a key, opened. `account_id` is the account that pays; `chain` leads there from the key's own, whose
    price book is `book`. `networks` are kept as (version, first, last) so that a check is two comparisons."""

    account_id: str
    key_id: str
    book: str
    slots: Slots
    limits: Limits
    models: Names | None
    networks: tuple[tuple[int, int, int], ...] | None
    expires_at_ms: int | None
    chain: tuple[Account, ...] = ()
    budgets: tuple[Budget, ...] = ()  # the key's own
    scopes: frozenset[str] | None = None

    @property
    def own_id(self) -> str:
        """The account whose key it is."""
        return self.chain[0].id if self.chain else self.account_id

    @property
    def member_id(self) -> str | None:
        """The same, where another pays for it."""
        return None if not self.chain or self.own_id == self.account_id else self.own_id


class MediaPart(msgspec.Struct, frozen=True):
    """A part of a message that is not text, at the path `at`. `size` is how many bytes of the request are its data: 0
    where it names data that is elsewhere. `detail` is what the customer asked for."""

    kind: Literal["image", "audio", "file", "video"]
    at: str
    size: int = 0
    detail: str | None = None


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was read and found sound. `body` is its JSON, field by field: as sent, but for the bound of the
    answers, which is written for each vendor. What depends on the model is worked out when that is known, by
    `app.proxy.admission.bounded`: `input_bound`, `media_tokens`, `imposed_limit` and `held_extras`."""

    request_id: str
    created_at_ms: int
    dialect: str
    model: str
    stream: bool
    wants_usage: bool  # the client asked for the usage chunk of a stream
    answers: int  # `n`
    output_limit: int | None  # tokens an answer, as the client bounded it
    input_bound: int  # tokens of the prompt at most, in force for the model
    body: dict[str, msgspec.Raw]
    prompt: tuple[str, ...]  # what the prompt is made of, for a count where the bound or the vendor's usage won't do
    conversation: str | None = None  # what the client said that this request belongs to
    also: tuple[str, ...] = ()  # models that the client would take instead, in its order
    requested_model: str | None = None  # where another is tried in its place
    text_bytes: int = 0  # all of the body but the data of media: no tokenizer counts more tokens in it
    uncounted_bytes: int = 0  # those of the prompt that neither `prompt` nor `media` has
    counted_tokens: int | None = None  # all but media, by OpenAI's tokenizer, where they had to be counted
    media: tuple[MediaPart, ...] = ()
    media_tokens: int = 0  # those of its media, at their dearest
    imposed_limit: int | None = None  # tokens an answer, as this gateway bounds it: see `answer_limit`
    extras: Extras = NO_EXTRAS  # what it asks for that has a price of its own
    may_be_empty: bool = False  # it names texts, or tokens, at which an answer may end before it has begun
    held_extras: Extras = NO_EXTRAS  # what of that a channel of the model passes on

    @property
    def answer_limit(self) -> int | None:
        """Tokens an answer, as the vendor is told: the client's bound, unless the wallet affords less, the model gives
        less, or nobody has named one. None: it is told nothing."""
        return self.output_limit if self.imposed_limit is None else self.imposed_limit


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """Money and tokens set aside, the rules that allowed it, and what the tightest of them have left."""

    amount_nano: int
    output_bound: int  # tokens of all answers that it pays for
    generation: bytes
    rules: Rules = NO_RULES
    requests: Allowance = NO_ALLOWANCE
    tokens: Allowance = NO_ALLOWANCE


class BudgetMark(msgspec.Struct, frozen=True):
    """How far a budget is used, for whoever is told of it. `refused` is where it could not take a request."""

    subject: Subject
    counter: str  # `usd.day`
    used: int
    amount: int
    start_ms: int
    refused: bool = False


class MarkBudget(Protocol):
    """Hears how far a budget is used, as often as it is half used or more, or refuses; must not wait."""

    def __call__(self, caller: Caller, mark: BudgetMark, /) -> None: ...


class Pick(msgspec.Struct, frozen=True):
    """The channel and credential to try next. A probe finds out whether a channel that was given up is back."""

    channel: Channel
    credential: Credential
    is_probe: bool = False


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a pick, for its channel's health. `error` is None where it served, or where the request itself was
    at fault; `http_status` is None where no answer came."""

    http_status: int | None = None
    error: str | None = None
    retry_after_ms: int | None = None  # the vendor's own word
    ttft_ms: int | None = None
    tokens: int = 0  # taken from the vendor's limit, input and output
    is_abandoned: bool = False  # by us or the customer: it says nothing about the channel
    is_unfit: bool = False  # the vendor's refusal was about the channel, as `error` says: see `relay.channel_faults`


class Plan(Protocol):
    """The picks of one request for one model, one after the other. Each pick that `next` gave is ended with `ended`,
    exactly once."""

    hedge_s: float | None  # how long to wait for first content before a second pick is tried beside the first
    deadline_at: float | None  # in the loop's time: no pick is begun, nor first content awaited, after it

    async def next(self) -> Pick | None:
        """None: nobody is left to ask. It waits only for a vendor's limit, and not long."""

    def came(self, pick: Pick, ttft_ms: int) -> None:
        """First content is there: the channel is well, whatever comes later."""

    def ended(self, pick: Pick, outcome: Outcome) -> None: ...

    @property
    def retry_after_ms(self) -> int | None:
        """When the first of those that were passed over may be asked again."""


class Try(msgspec.Struct, frozen=True, kw_only=True):
    """One try of one channel, as the relay saw it, for the public name `model`. `error` is None where it served;
    `usage` is what the vendor said that a try which failed took all the same."""

    channel: Channel
    model: str
    http_status: int | None
    error: str | None
    duration_ms: int
    usage: Usage | None = None


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """How the relay ended: what the settlement needs to know. `output` is the text that the vendor sent, of which the
    first `delivered_letters` reached the customer (None: all of it). A `usage` that is not final may count less than
    was generated: the vendor was still at it, or did not say how long the answer is."""

    ending: Ending
    http_status: int
    channel: Channel | None
    tries: tuple[Try, ...]
    usage: Usage | None
    finish_reason: str | None
    is_usage_final: bool = True
    output: str = ""
    delivered_letters: int | None = None
    service_tier: str | None = None  # as the vendor says that it served
    ttft_ms: int | None = None


class Offer(msgspec.Struct, frozen=True):
    """A model on sale, what it costs this caller, and the channels that serve it, in the order to try them."""

    model: Model
    sale: Sale
    channels: tuple[Channel, ...]
