"""What limits tell customers, as OpenAI's clients read it. Pure."""

from typing import Literal

from app.proxy.records import Hold
from app.quota.gate import Allowance

__all__ = ["allowance_headers", "duration", "limit_headers"]

Headers = list[tuple[bytes, bytes]]
Kind = Literal["requests", "tokens"]

_NAMES: dict[Kind, tuple[bytes, bytes, bytes]] = {
    "requests": (b"x-ratelimit-limit-requests", b"x-ratelimit-remaining-requests", b"x-ratelimit-reset-requests"),
    "tokens": (b"x-ratelimit-limit-tokens", b"x-ratelimit-remaining-tokens", b"x-ratelimit-reset-tokens"),
}


def limit_headers(hold: Hold) -> Headers:
    """`x-ratelimit-*` of the limits that have the least left; a kind that has no limit has none."""
    headers: Headers = []
    if hold.requests.limit:
        headers += allowance_headers("requests", hold.requests)
    if hold.tokens.limit:
        headers += allowance_headers("tokens", hold.tokens)
    return headers


def allowance_headers(kind: Kind, allowance: Allowance) -> Headers:
    limit, remaining, reset = _NAMES[kind]
    return [
        (limit, b"%d" % allowance.limit),
        (remaining, b"%d" % allowance.left),
        (reset, duration(allowance.reset_ms).encode()),
    ]


def duration(ms: int) -> str:
    """As Go prints one, and OpenAI sends it: `120ms`, `1.5s`, `6m0s`, `23h59m59s`."""
    if ms < 1000:
        return f"{ms}ms"
    seconds, rest_ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{rest_ms:03d}".rstrip("0") if rest_ms else ""
    text = f"{seconds}{fraction}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text
