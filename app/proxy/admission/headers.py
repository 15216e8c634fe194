"""What limits tell customers, as OpenAI's clients read it. Pure."""

from app.proxy.records import Hold
from app.quota.gate import Allowance

__all__ = ["allowance_headers", "duration", "limit_headers"]

Headers = list[tuple[bytes, bytes]]


def limit_headers(hold: Hold) -> Headers:
    """`x-ratelimit-*` of the limits that have the least left; a kind that has no limit has none."""
    headers: Headers = []
    if hold.requests.limit:
        headers += allowance_headers(b"requests", hold.requests)
    if hold.tokens.limit:
        headers += allowance_headers(b"tokens", hold.tokens)
    return headers


def allowance_headers(kind: bytes, allowance: Allowance) -> Headers:
    return [
        (b"x-ratelimit-limit-" + kind, b"%d" % allowance.limit),
        (b"x-ratelimit-remaining-" + kind, b"%d" % allowance.left),
        (b"x-ratelimit-reset-" + kind, duration(allowance.reset_ms).encode()),
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
