"""Step 4: call upstream, fail over, stream. The channels are tried in the given order until the first content has come;
after it, never another: a customer's answer is of one piece. Refuses to know prices, wallets or keys."""

from app.proxy.relay.runner import Relay, RelayFailed
from app.proxy.relay.stream import LiveStream, StreamCut

__all__ = ["LiveStream", "Relay", "RelayFailed", "StreamCut"]
