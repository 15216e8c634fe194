"""Step 3: which channels, in which order. Pure: a choice out of the snapshot and a random number, without waiting."""

from app.proxy.dispatch.choice import order_channels
from app.proxy.dispatch.plan import SimpleDispatcher, SimplePlan

__all__ = ["SimpleDispatcher", "SimplePlan", "order_channels"]
