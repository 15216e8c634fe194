"""The most a request can use, before it has run. Pure."""

import msgspec

from app.base.errors import InvalidField
from app.base.receipt import NO_EXTRAS
from app.base.tokens import TOKENS_PER_TEXT
from app.catalog.pricing import Sale, worst_case_nano
from app.catalog.records import Media, Model
from app.proxy.extras import passable_extras
from app.proxy.records import MediaPart, Offer, Order

__all__ = [
    "DEFAULT_OUTPUT_TOKENS",
    "Room",
    "affordable_output",
    "bounded",
    "check_media",
    "counted_bound",
    "held_output",
    "output_bound",
    "takes_media",
]

# The bound of an answer that neither the customer nor the model bounds.
DEFAULT_OUTPUT_TOKENS = 4096
# What a chat template puts around a prompt.
_TEMPLATE_TOKENS = 16
# Of a model that declares none: what gpt-4o-mini takes at most, 2,833 and 5,667 for each of 8 tiles, which is more than
# any other model of the vendors takes. Also with `detail: low`, which many vendors do not read.
# https://platform.openai.com/docs/guides/images-vision#calculating-costs
_IMAGE_TOKENS = 48_169
_NAMES = {"image": "images", "audio": "audio", "file": "files", "video": "videos"}


class Room(msgspec.Struct, frozen=True):
    """What a wallet or a budget has left for a request: nano-USD, or tokens."""

    nano: int | None = None
    tokens: int | None = None

    def fits(self, order: Order, sale: Sale, output_tokens: int) -> bool:
        if self.tokens is not None:
            return order.input_bound + held_output(order, output_tokens) <= self.tokens
        assert self.nano is not None
        worst = worst_case_nano(
            sale.prices, order.input_bound, output_tokens, sale.multiplier, extras=order.held_extras
        )
        return worst <= self.nano


def bounded(order: Order, offer: Offer, *, is_counted: bool = False) -> Order:
    """The order with the bounds that hold for the model on offer; `is_counted`: the count of its prompt is one there.
    Its media are such as the model takes. An order that moved here keeps the limit that was imposed on it."""
    model = offer.model
    media = sum(_tokens(part, model.media) or 0 for part in order.media) if order.media else 0
    text = order.text_bytes
    if is_counted and order.counted_tokens is not None:
        text = min(text, order.counted_tokens)
    limit = _imposed_limit(order, model)
    extras = NO_EXTRAS if order.extras is NO_EXTRAS else passable_extras(order, offer.channels)
    if text + media == order.input_bound and limit == order.imposed_limit and extras is order.held_extras:
        return order
    return msgspec.structs.replace(
        order, input_bound=text + media, media_tokens=media, imposed_limit=limit, held_extras=extras
    )


def check_media(order: Order, model: Model) -> None:
    """Raises InvalidField with the path of a part that the model declares no bound for."""
    for part in order.media:
        if _tokens(part, model.media) is None:
            raise InvalidField(part.at, f"`{model.name}` declares no bound for {_NAMES[part.kind]}, and takes none")


def takes_media(order: Order, model: Model) -> bool:
    return all(_tokens(part, model.media) is not None for part in order.media)


def output_bound(order: Order, model: Model) -> int:
    """Output tokens of all its answers: the client's limit, or the wallet's, else the most that the model can give."""
    limit = order.answer_limit or model.max_output_tokens or DEFAULT_OUTPUT_TOKENS
    if model.max_output_tokens is not None:
        limit = min(limit, model.max_output_tokens)
    return order.answers * limit


def held_output(order: Order, output_tokens: int) -> int:
    """Those of them that limits and budgets of tokens hold: a request without a limit rarely comes near the most that
    its model can give, and must not take all of a minute's tokens."""
    if order.output_limit is not None:
        return output_tokens
    return min(output_tokens, order.answers * DEFAULT_OUTPUT_TOKENS)


def counted_bound(order: Order, counted: int) -> int:
    """Tokens of a prompt whose texts were counted: with what the chat format adds, and each byte of what is neither
    among the texts nor among the media."""
    return counted + TOKENS_PER_TEXT * len(order.prompt) + _TEMPLATE_TOKENS + order.uncounted_bytes


def affordable_output(order: Order, sale: Sale, most: int, room: Room) -> int:
    """The largest limit an answer, up to `most` tokens, whose worst case there is room for, or 0."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if room.fits(order, sale, order.answers * middle):
            low = middle
        else:
            high = middle - 1
    return low


def _imposed_limit(order: Order, model: Model) -> int | None:
    """A vendor is told of no more than is held: 4096 where nobody has named a bound, and what the model can give where
    the customer asks for more."""
    limit, most = order.answer_limit, model.max_output_tokens
    if limit is None:
        return DEFAULT_OUTPUT_TOKENS if most is None else None
    return order.imposed_limit if most is None or limit <= most else most


def _tokens(part: MediaPart, media: Media) -> int | None:
    """The most that it can cost; None where nobody has declared that. Audio in the request is bounded by its bytes."""
    if part.kind == "image":
        bound = _IMAGE_TOKENS if media.image is None else media.image
        if isinstance(bound, int):
            return bound
        return bound.low if part.detail == "low" else max(bound.low, bound.high)
    declared: int | None = getattr(media, part.kind)
    if declared is None and part.kind == "audio" and part.size:
        return part.size
    return declared
