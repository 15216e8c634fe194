"""The most a request can use, before it has run. Pure."""

import msgspec

from app.base.tokens import TOKENS_PER_TEXT
from app.catalog.pricing import Sale, worst_case_nano
from app.catalog.records import Model
from app.proxy.records import Order

__all__ = ["DEFAULT_OUTPUT_TOKENS", "Room", "affordable_output", "output_bound", "prompt_bound"]

# What is held for a request that names no limit.
DEFAULT_OUTPUT_TOKENS = 4096
# What a chat template puts around a prompt.
_TEMPLATE_TOKENS = 16


class Room(msgspec.Struct, frozen=True):
    """What a wallet or a budget has left for a request: nano-USD, or tokens."""

    nano: int | None = None
    tokens: int | None = None

    def fits(self, sale: Sale, input_tokens: int, output_tokens: int) -> bool:
        if self.tokens is not None:
            return input_tokens + output_tokens <= self.tokens
        assert self.nano is not None
        return worst_case_nano(sale.prices, input_tokens, output_tokens, sale.multiplier) <= self.nano


def output_bound(order: Order, model: Model) -> int:
    """Output tokens of all its answers: the client's limit, or the wallet's, else 4096; but never more than the model
    can give."""
    limit = order.output_limit or order.imposed_limit or DEFAULT_OUTPUT_TOKENS
    if model.max_output_tokens is not None:
        limit = min(limit, model.max_output_tokens)
    return order.answers * limit


def prompt_bound(order: Order, counted: int) -> int:
    """Tokens of a prompt whose texts were counted: with what the chat format adds, and pictures at their dearest."""
    return counted + TOKENS_PER_TEXT * len(order.prompt) + _TEMPLATE_TOKENS + order.image_tokens


def affordable_output(order: Order, sale: Sale, most: int, room: Room) -> int:
    """The largest limit an answer, up to `most` tokens, whose worst case there is room for, or 0."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if room.fits(sale, order.input_bound, order.answers * middle):
            low = middle
        else:
            high = middle - 1
    return low
