"""A channel's test: one tiny real request, along the very path that customers' requests take."""

import msgspec

from app.base.clock import monotonic_ms, now_ms
from app.base.ids import new_request_id
from app.catalog.records import Channel, Credential
from app.proxy.records import Outcome, Pick
from app.proxy.relay.dialects.openai_chat import read_order
from app.proxy.relay.runner import Relay
from app.proxy.relay.search import RelayFailed

__all__ = ["probe_channel"]

_BODY = b'{"model":%b,"messages":[{"role":"user","content":"Say ok."}],"max_tokens":16}'


async def probe_channel(
    relay: Relay, channel: Channel, model: str, credential: Credential | None = None
) -> dict[str, object]:
    """`{"ok", "model", "latency_ms", "http_status", "error", "answer"}`; never raises for what the vendor did. The
    first of the channel's credentials is used, unless another is named."""
    order = read_order(_BODY % msgspec.json.encode(model), new_request_id(), now_ms())
    started = monotonic_ms()
    try:
        delivered, _ = await relay.fetch(order, _OnePick(Pick(channel, credential or channel.ways[0])))
    except RelayFailed as failed:
        attempt = failed.tries[-1]
        vendor_said = failed.error.message if failed.is_refused else None
        return {
            "ok": False,
            "model": model,
            "latency_ms": monotonic_ms() - started,
            "http_status": attempt.http_status,
            "error": vendor_said or attempt.error,
            "answer": None,
        }
    return {
        "ok": True,
        "model": model,
        "latency_ms": monotonic_ms() - started,
        "http_status": 200,
        "error": None,
        "answer": delivered.output[:500],
    }


class _OnePick:
    """A plan that knows one pick, and keeps nothing of what becomes of it."""

    hedge_s: float | None = None
    deadline_at: float | None = None
    retry_after_ms: int | None = None

    def __init__(self, pick: Pick) -> None:
        self._pick: Pick | None = pick

    async def next(self) -> Pick | None:
        pick, self._pick = self._pick, None
        return pick

    def came(self, pick: Pick, ttft_ms: int) -> None: ...
    def ended(self, pick: Pick, outcome: Outcome) -> None: ...
