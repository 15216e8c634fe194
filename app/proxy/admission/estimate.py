"""The most a request can use, before it has run. Pure."""

from app.catalog.records import Model
from app.proxy.records import Order

__all__ = ["DEFAULT_OUTPUT_TOKENS", "output_bound"]

# What is held for a request that names no limit.
DEFAULT_OUTPUT_TOKENS = 4096


def output_bound(order: Order, model: Model) -> int:
    """Output tokens of all its answers: the client's limit, else 4096, but never more than the model can give."""
    limit = order.output_limit or DEFAULT_OUTPUT_TOKENS
    if model.max_output_tokens is not None:
        limit = min(limit, model.max_output_tokens)
    return order.answers * limit
