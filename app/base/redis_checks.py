"""What the books need of a Redis, and whether a server has it: its version, how it keeps what it acknowledged, whether
it throws keys away, and whether it is a master. Pure, but for asking.

Sources: the documents of INFO, CONFIG GET, and of persistence and replication of Redis 6.2 to 8 and Valkey. What each
set-up can lose is in docs/redis.md.
"""

from contextlib import suppress

import msgspec

from app.base.wire import Connected, StoreError

__all__ = ["Confirming", "Finding", "RedisFacts", "check_redis", "confirming", "read_facts", "strictest"]

_OLDEST = (6, 2)
_WAITS_FOR_DISK = (7, 2)
_CONFIRM_MS = 500
_ASKED = ("appendfsync", "maxmemory", "maxmemory-policy")

# WAIT or WAITAOF, as it is sent; None for nothing.
Confirming = tuple[bytes | int, ...] | None


class Finding(msgspec.Struct, frozen=True):
    """`code` is one word for programs, `text` a sentence for people."""

    code: str
    text: str


class RedisFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says of itself; None where it does not say."""

    version: str | None = None
    role: str | None = None
    appends: bool | None = None
    replicas: int | None = None
    fsync: str | None = None
    memory_most: int | None = None
    eviction: str | None = None


async def read_facts(server: Connected) -> RedisFacts:
    """Managed services refuse CONFIG, and a user may be refused INFO: what those would tell stays unknown. Raises
    ServiceUnavailable."""
    said: dict[str, str] = {}
    with suppress(StoreError):
        for section in ("server", "persistence", "replication"):
            said |= _lines(await server.call(b"INFO", section))
    settings: dict[str, str] = {}
    for name in _ASKED:
        try:
            reply = await server.call(b"CONFIG", b"GET", name)
        except StoreError:
            break
        settings |= dict(zip(*[iter(part.decode() for part in reply)] * 2, strict=True))
    appends = said.get("aof_enabled")
    return RedisFacts(
        version=said.get("valkey_version") or said.get("redis_version"),
        role=said.get("role"),
        appends=None if appends is None else appends == "1",
        replicas=_number(said.get("connected_slaves")),
        fsync=settings.get("appendfsync"),
        memory_most=_number(settings.get("maxmemory")),
        eviction=settings.get("maxmemory-policy"),
    )


def confirming(facts: RedisFacts, replicas: int, disk: int) -> Confirming:
    """The command that waits until a write is on so many replicas, and in the append-only file; None where neither is
    asked for."""
    if disk and _can_wait_for_disk(facts):
        return (b"WAITAOF", 1, replicas, _CONFIRM_MS)
    return (b"WAIT", replicas, _CONFIRM_MS) if replicas else None


def strictest(*commands: Confirming) -> Confirming:
    """Of what servers can wait for, the one that waits for the most."""
    asked = [command for command in commands if command is not None]
    return max(asked, key=len, default=None)


def check_redis(facts: RedisFacts, replicas: int = 0, disk: int = 0) -> tuple[Finding, ...]:
    """What of it does not fit, or can't be seen. `replicas` and `disk` are what the operator wants writes to wait
    for."""
    found = []
    if facts.version is None:
        text = (
            "Redis does not say who it is (INFO): a server that takes its place without its last writes goes unnoticed."
        )
        found.append(Finding("identity_unknown", text))
    elif _version(facts.version) < _OLDEST:
        found.append(Finding("version", f"Redis {facts.version} is older than 6.2."))
    if facts.role not in ("master", None):
        found.append(Finding("role", "This Redis is a replica: it can't be written to."))
    found += _durability(facts)
    if facts.replicas is not None and facts.replicas < replicas:
        text = f"{replicas} replicas have to confirm each hold and charge, and Redis has {facts.replicas}."
        found.append(Finding("replicas", text))
    elif facts.replicas and not replicas:
        text = "Redis has replicas that nothing waits for: a failover loses what they had not got. See docs/redis.md."
        found.append(Finding("unconfirmed_replicas", text))
    if disk and not _can_wait_for_disk(facts):
        found.append(Finding("wait_disk", "TOLLGATE_REDIS_WAIT_DISK needs Redis 7.2 and an append-only file."))
    if facts.eviction is None:
        found.append(Finding("eviction_unknown", "Redis does not say its maxmemory-policy: it has to be noeviction."))
    elif facts.eviction != "noeviction" and facts.memory_most != 0:
        text = f"maxmemory-policy is {facts.eviction}: Redis may throw away wallets and receipts. Set it to noeviction."
        found.append(Finding("eviction", text))
    return tuple(found)


def _can_wait_for_disk(facts: RedisFacts) -> bool:
    return facts.version is not None and _version(facts.version) >= _WAITS_FOR_DISK and facts.appends is True


def _durability(facts: RedisFacts) -> list[Finding]:
    if facts.appends is None:
        return [Finding("durability_unknown", "Redis does not say whether it keeps an append-only file.")]
    if not facts.appends:
        return [
            Finding(
                "no_append_only_file", "appendonly is no: a crash of Redis loses what was not posted. Set it to yes."
            )
        ]
    if facts.fsync is None:
        return [
            Finding("fsync_unknown", "Redis does not say its appendfsync: with everysec, a power cut loses a second.")
        ]
    if facts.fsync != "always":
        text = f"appendfsync is {facts.fsync}: a power cut loses the last writes. What workers still know is made good."
        return [Finding("fsync", text)]
    return []


def _lines(info: bytes) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in info.decode(errors="replace").splitlines() if ":" in line)
    return {name: value.strip() for name, value in pairs}


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def _version(text: str) -> tuple[int, int]:
    """Valkey begins at 7.2, and its numbers follow Redis's."""
    parts = text.split(".")
    return (int(parts[0]), int(parts[1])) if len(parts) > 1 and parts[0].isdigit() and parts[1].isdigit() else (0, 0)
