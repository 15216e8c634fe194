"""What a request could cost bounds what it is charged for: the vendor's figures, cut down to the bounds that were held.
Pure."""

import msgspec

from app.base.receipt import Usage

__all__ = ["cap_output", "cap_usage", "describe_excess", "is_within"]

_INPUT_CLASSES = (
    "cached_input_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "audio_input_tokens",
    "image_input_tokens",
)
_OUTPUT_CLASSES = ("reasoning_tokens", "audio_output_tokens", "image_output_tokens")


def is_within(usage: Usage, input_bound: int, output_bound: int) -> bool:
    """Whether neither side is beyond its bound, as nearly always."""
    return usage.input_tokens <= input_bound and usage.output_tokens <= output_bound


def cap_usage(usage: Usage, input_bound: int, output_bound: int) -> Usage:
    """`usage` with at most so many tokens of each side; the classes of a side that is cut keep their shares of it."""
    return cap_output(_scale(usage, "input_tokens", _INPUT_CLASSES, input_bound), output_bound)


def cap_output(usage: Usage, output_bound: int) -> Usage:
    """The same for the answer alone."""
    return _scale(usage, "output_tokens", _OUTPUT_CLASSES, output_bound)


def describe_excess(usage: Usage, input_bound: int, output_bound: int) -> str | None:
    """In which way a vendor's figures go beyond the bounds, for the operator; None where they don't."""
    said = [
        f"{tokens} {side} tokens where at most {bound} were possible"
        for side, tokens, bound in (
            ("input", usage.input_tokens, input_bound),
            ("output", usage.output_tokens, output_bound),
        )
        if tokens > bound
    ]
    return " and ".join(said) or None


def _scale(usage: Usage, side: str, classes: tuple[str, ...], bound: int) -> Usage:
    whole = getattr(usage, side)
    if whole <= bound:
        return usage
    parts = {name: min(getattr(usage, name), whole) * bound // whole for name in classes}
    return msgspec.structs.replace(usage, **{side: bound}, **parts)
