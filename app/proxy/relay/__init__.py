"""Step 4: call upstream, fail over, stream. A plan's picks are tried until the first content has come; after it, never
another: a customer's answer is of one piece. Refuses to know prices, wallets or keys."""

from app.proxy.relay.attempt import has_passed
from app.proxy.relay.runner import Relay
from app.proxy.relay.search import RelayFailed
from app.proxy.relay.stream import LiveStream, StreamCut

__all__ = ["LiveStream", "Relay", "RelayFailed", "StreamCut", "has_passed"]
