"""A channel's test: one tiny real request, along the very path that customers' requests take."""

import msgspec

from app.base.clock import monotonic_ms, now_ms
from app.base.ids import new_request_id
from app.catalog.records import Channel, Credential
from app.proxy.relay.dialects.openai_chat import read_order
from app.proxy.relay.runner import Relay, RelayFailed

__all__ = ["probe_channel"]

_BODY = b'{"model":%b,"messages":[{"role":"user","content":"Say ok."}],"max_tokens":16}'


async def probe_channel(
    relay: Relay, channel: Channel, model: str, credential: Credential | None = None
) -> dict[str, object]:
    """`{"ok", "model", "latency_ms", "http_status", "error", "answer"}`; never raises for what the vendor did. The
    first of the channel's credentials is used, unless another is named."""
    if credential is not None and channel.credentials:
        channel = msgspec.structs.replace(channel, credentials=(credential,))
    order = read_order(_BODY % msgspec.json.encode(model), new_request_id(), now_ms())
    started = monotonic_ms()
    try:
        delivered, _ = await relay.fetch(order, (channel,))
    except RelayFailed as failed:
        attempt = failed.tries[-1]
        vendor_said = failed.error.message if attempt.error == "refused" else None
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
