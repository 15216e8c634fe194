"""Where keys are on a Redis Cluster: the hash slot of a key, and who serves which slots. Pure.

Source: the Redis Cluster specification, sections "Key distribution model" and "Hash tags".
"""

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from redis.crc import key_slot

__all__ = ["SLOTS", "Address", "read_redirection", "read_topology", "seeds_of", "slot_of"]

SLOTS = 16_384
Address = tuple[str, int]

_TAGS_MOST = 10_000
_slots: dict[bytes, int] = {}


def slot_of(key: bytes) -> int:
    """Ours begin with their hash tag, and there are few of those: each is worked out once."""
    tag = key[: key.find(b"}") + 1] if key[:1] == b"{" else b""
    if len(tag) <= len(b"{}"):
        return int(key_slot(key))
    slot = _slots.get(tag)
    if slot is None:
        if len(_slots) >= _TAGS_MOST:
            _slots.clear()
        slot = _slots[tag] = int(key_slot(tag))
    return slot


def seeds_of(url: str) -> list[str]:
    """A URL a node, of one that names several: `redis://:secret@one:7000,two:7000/0`."""
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    if "," not in hosts:
        return [url]
    return [urlunsplit(parts._replace(netloc=f"{login}{at}{host}")) for host in hosts.split(",")]


def read_topology(reply: Iterable[Sequence[Any]], asked: Address) -> list[tuple[range, Address]]:
    """What CLUSTER SLOTS says: the masters and their slots. A node without a name of its own is the one that was
    asked."""
    found = []
    for first, last, master, *_ in reply:
        host, port = (master[0] or b"").decode(), int(master[1])
        found.append((range(first, last + 1), (host or asked[0], port)))
    return found


def read_redirection(error: str, asked: Address) -> tuple[str, Address | None]:
    """`MOVED 3999 10.0.0.1:6381`: the word, and who is named; None where the error names nobody."""
    kind, *rest = error.split()[:3] or [""]
    if kind not in ("MOVED", "ASK") or len(rest) < 2:
        return kind, None
    host, _, port = rest[1].rpartition(":")
    return kind, (host or asked[0], int(port))
