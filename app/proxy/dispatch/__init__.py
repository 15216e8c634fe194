"""Step 3: which channels, in which order. Pure: a choice out of the snapshot and a random number, without waiting."""

from app.proxy.dispatch.choice import order_channels

__all__ = ["order_channels"]
