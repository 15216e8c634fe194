"""Environment -> one frozen Struct. Nothing else in the house reads `os.environ`."""

import logging
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from app.base.addresses import Network, read_network
from app.base.crypto import Sealer
from app.secret_settings import SettingsError, check_key, kept_secret, read_secret

__all__ = ["Settings", "SettingsError", "load_settings", "start_logging"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the deployment decides. Every field `x` comes from `TOLLGATE_X`, or, where it is secret, from the file that
    `TOLLGATE_X_FILE` names."""

    host: str = "127.0.0.1"
    port: int = 8000
    data_dir: Path = Path("data")
    database_url: str = ""  # empty: SQLite in the data dir
    redis_url: str = ""  # empty: an embedded redis-server in the data dir
    redis_wait_replicas: int = 0  # how many have to confirm a hold and a charge (WAIT)
    redis_wait_disk: int = 0  # 1: the append-only file has to have it (WAITAOF, Redis 7.2)
    admin_key: str = ""  # empty: made at the first start, shown once
    secret_key: str = ""  # empty: made at the first start, kept in the data dir
    old_secret_key: str = ""  # opens what was sealed before a rotation of the secret key; seals nothing
    workers: int = 0  # 0: one a core, four at most
    log_level: str = "info"
    shards: int = 64  # fixed at the first start
    lease_seconds: int = 60  # how long a hold outlives the last sign of life of its worker
    max_body_bytes: int = 32 * 1024 * 1024
    trusted_proxies: str = ""  # networks, by comma: whose `X-Forwarded-For` is believed
    connections_per_address: int = 1000  # open at once, to each worker; 0: any number
    cors_origins: str = ""  # origins, by comma, whose pages may call `/v1`; `*` for any
    drain_seconds: int = 30  # how long a running stream may go on after SIGTERM
    read_on_seconds: int = 600  # how long an answer that its customer left is read on for its usage
    retest_seconds: int = 60  # how long a parked credential rests before its first test; then twice as long each time
    # What an ending costs the customer: `full`, `delivered` or `free`; see `proxy.settlement.policies`.
    policy_cut: str = "delivered"  # the vendor broke off in mid-answer
    policy_client_gone: str = "full"  # the customer hung up
    policy_interrupted: str = "delivered"  # this gateway stopped
    policy_out_of_credit: str = "delivered"  # the wallet could not pay for more of a stream
    policy_no_usage: str = "full"  # complete, but the vendor sent no usage: it is counted here
    policy_expired: str = "free"  # the worker died: `full` is the worst case that was held

    @property
    def trusted_networks(self) -> tuple[Network, ...]:
        return tuple(read_network(each.strip()) for each in self.trusted_proxies.split(",") if each.strip())

    @property
    def allowed_origins(self) -> frozenset[str]:
        """Raises ValueError where one of them is none."""
        origins = frozenset(each.strip().lower() for each in self.cors_origins.split(",") if each.strip())
        if any(_ORIGIN.fullmatch(each) is None for each in origins):
            raise ValueError(self.cors_origins)
        return origins

    @property
    def embedded_redis(self) -> bool:
        return not self.redis_url

    @property
    def is_production(self) -> bool:
        """A database or a Redis of the operator's own: nobody is trying things out, and the log is kept somewhere."""
        return bool(self.redis_url) or self.database_url not in ("", _database_url("", self.data_dir))

    def sealer(self) -> Sealer:
        return Sealer(self.secret_key, self.old_secret_key)

    @property
    def worker_count(self) -> int:
        return self.workers or min(os.cpu_count() or 1, 4)


_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^\s/,?#@]+")
_BOUNDS = {
    "port": (1, 65535),
    "workers": (0, 256),
    "shards": (1, 1024),
    "redis_wait_replicas": (0, 16),
    "redis_wait_disk": (0, 1),
    "lease_seconds": (1, 3600),
    "max_body_bytes": (1024, 2**31),
    "connections_per_address": (0, 1_000_000),
    "drain_seconds": (1, 3600),
    "read_on_seconds": (0, 3600),
    "retest_seconds": (1, 3600),
}
_CHOICES = {
    "policy_cut": ("full", "delivered", "free"),
    "policy_client_gone": ("full", "delivered", "free"),
    "policy_interrupted": ("full", "delivered", "free"),
    "policy_out_of_credit": ("full", "delivered", "free"),
    "policy_no_usage": ("full", "free"),
    "policy_expired": ("full", "free"),
}
_SECRET = ("database_url", "redis_url", "admin_key", "secret_key", "old_secret_key")
_LOG_LEVELS = ("debug", "info", "warning", "error")


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Reads `TOLLGATE_*`. Raises SettingsError naming the variable."""
    values: dict[str, object] = {}
    for field in msgspec.structs.fields(Settings):
        name = f"TOLLGATE_{field.name.upper()}"
        if text := read_secret(environ, name) if field.name in _SECRET else environ.get(name):
            values[field.name] = _parse(name, text, field.name)
    settings = Settings(**values)  # type: ignore[arg-type]
    if settings.log_level not in _LOG_LEVELS:
        raise SettingsError(f"TOLLGATE_LOG_LEVEL must be one of {', '.join(_LOG_LEVELS)}")
    try:
        _ = settings.trusted_networks
    except ValueError:
        raise SettingsError("TOLLGATE_TRUSTED_PROXIES must be networks such as 10.0.0.0/8,2001:db8::1") from None
    for key in ("admin_key", "secret_key"):
        if getattr(settings, key):
            check_key(f"TOLLGATE_{key.upper()}", getattr(settings, key))
    try:
        _ = settings.allowed_origins
    except ValueError:
        raise SettingsError("TOLLGATE_CORS_ORIGINS must be origins such as https://app.example.com, or *") from None
    data_dir = settings.data_dir.resolve()
    return msgspec.structs.replace(
        settings,
        data_dir=data_dir,
        database_url=_database_url(settings.database_url, data_dir),
        secret_key=settings.secret_key or _kept_secret_key(data_dir),
    )


def _parse(name: str, text: str, field: str) -> object:
    if field in _BOUNDS:
        low, high = _BOUNDS[field]
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise SettingsError(f"{name} must be a whole number from {low} to {high}")
        return int(text)
    if field in _CHOICES:
        if text.lower() not in _CHOICES[field]:
            raise SettingsError(f"{name} must be one of {', '.join(_CHOICES[field])}")
        return text.lower()
    return Path(text) if field == "data_dir" else text.lower() if field == "log_level" else text


def _database_url(url: str, data_dir: Path) -> str:
    """The plain URLs people have at hand, completed with the async driver."""
    if not url:
        return f"sqlite+aiosqlite:///{data_dir / 'tollgate.db'}"
    for plain, driven in (
        ("postgres://", "postgresql+asyncpg://"),
        ("postgresql://", "postgresql+asyncpg://"),
        ("sqlite://", "sqlite+aiosqlite://"),
    ):
        if url.startswith(plain):
            return driven + url.removeprefix(plain)
    if url.startswith(("postgresql+asyncpg://", "sqlite+aiosqlite://")):
        return url
    raise SettingsError("TOLLGATE_DATABASE_URL must start with postgresql:// or sqlite://")


def _kept_secret_key(data_dir: Path) -> str:
    file = data_dir / "secret.key"
    return kept_secret(file, f"the secret in {file}, used while TOLLGATE_SECRET_KEY is unset,")


def start_logging(settings: Settings) -> None:
    """One line an event, to standard error."""
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s[%(process)d]: %(message)s",
        stream=sys.stderr,
    )
    for noisy in ("alembic", "httpx", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
