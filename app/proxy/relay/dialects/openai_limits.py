"""The bound of an answer: read from either of OpenAI's names for it, and written in the field that the vendor reads."""

import msgspec
from msgspec import Raw

from app.base.priced_fields import LimitField

__all__ = ["LIMITS", "bound_again", "smaller_limit", "write_bound"]

# `max_completion_tokens` took the place of `max_tokens`: https://platform.openai.com/docs/api-reference/chat/create.
LIMITS = ("max_tokens", "max_completion_tokens")

# Beside the answer at Qwen's vendors: https://help.aliyun.com/zh/model-studio/deep-thinking
THINKING = "thinking_budget"

_encode = msgspec.json.Encoder().encode


def smaller_limit(older: int | None, newer: int | None) -> int | None:
    """Tokens an answer: where a customer sends both names, the smaller bounds it for every vendor."""
    if older is None or newer is None:
        return newer if older is None else older
    return min(older, newer)


def write_bound(fields: dict[str, Raw], most: int, limit_field: LimitField) -> None:
    """Bounds each answer to `most` tokens, in the vendor's field and in no other; and what a model may think before it,
    where the customer has bounded that."""
    bound = Raw(_encode(most))
    if THINKING in fields and not _is_within(fields[THINKING], most):
        fields[THINKING] = bound
    for name in LIMITS:
        if limit_field in (name, "both"):
            fields[name] = bound
        elif name in fields:
            del fields[name]


def bound_again(fields: dict[str, Raw], most: int, limit_field: LimitField) -> None:
    """After an operator's rules: they may have shortened an answer, in whichever field they name. A longer bound, or
    none, is not paid for by what is held."""
    named = [limit for name in LIMITS if name in fields and (limit := _whole(fields[name])) > 0]
    write_bound(fields, min([most, *named]), limit_field)


def _is_within(value: Raw, most: int) -> bool:
    """Null, or a whole number up to `most`. What is neither a vendor may read in its own way, such as -1 for any."""
    sent = msgspec.json.decode(value)
    return sent is None or (type(sent) is int and 0 <= sent <= most)


def _whole(value: Raw) -> int:
    """0 where it is no whole number."""
    sent = msgspec.json.decode(value)
    return sent if isinstance(sent, int) and not isinstance(sent, bool) else 0
