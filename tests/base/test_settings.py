"""Settings: each variable reaches its field, a bad one is named, and the secret of a data dir stays the same."""

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings, SettingsError, load_settings
from tests.gateway import ADMIN_KEY

SECRET_KEY = "the secret key of this deployment"


def _load(data_dir: Path, **variables: str) -> Settings:
    return load_settings({"TOLLGATE_DATA_DIR": str(data_dir), **variables})


def test_without_variables_everything_is_in_the_data_dir(tmp_path: Path) -> None:
    """SQLite and an embedded Redis, on loopback: a first start needs nothing."""
    settings = _load(tmp_path)
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.database_url == f"sqlite+aiosqlite:///{tmp_path / 'tollgate.db'}"
    assert settings.embedded_redis
    assert settings.secret_key
    assert 1 <= settings.worker_count <= 4


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("TOLLGATE_HOST", "0.0.0.0", "host", "0.0.0.0"),
        ("TOLLGATE_PORT", "9000", "port", 9000),
        ("TOLLGATE_REDIS_URL", "redis://cache:6379/1", "redis_url", "redis://cache:6379/1"),
        ("TOLLGATE_ADMIN_KEY", ADMIN_KEY, "admin_key", ADMIN_KEY),
        ("TOLLGATE_SECRET_KEY", SECRET_KEY, "secret_key", SECRET_KEY),
        ("TOLLGATE_WORKERS", "7", "worker_count", 7),
        ("TOLLGATE_CORS_ORIGINS", "*", "allowed_origins", frozenset({"*"})),
        (
            "TOLLGATE_CORS_ORIGINS",
            "https://App.example.com, tauri://localhost,http://[::1]:3000",
            "allowed_origins",
            frozenset({"https://app.example.com", "tauri://localhost", "http://[::1]:3000"}),
        ),
        ("TOLLGATE_LOG_LEVEL", "DEBUG", "log_level", "debug"),
        ("TOLLGATE_SHARDS", "16", "shards", 16),
        ("TOLLGATE_LEASE_SECONDS", "5", "lease_seconds", 5),
        ("TOLLGATE_MAX_BODY_BYTES", "4096", "max_body_bytes", 4096),
        ("TOLLGATE_DRAIN_SECONDS", "3", "drain_seconds", 3),
        ("TOLLGATE_DATABASE_URL", "postgres://u:p@h/d", "database_url", "postgresql+asyncpg://u:p@h/d"),
        ("TOLLGATE_DATABASE_URL", "postgresql://u:p@h/d", "database_url", "postgresql+asyncpg://u:p@h/d"),
        ("TOLLGATE_DATABASE_URL", "postgresql+asyncpg://h/d", "database_url", "postgresql+asyncpg://h/d"),
        ("TOLLGATE_DATABASE_URL", "sqlite:////x/y.db", "database_url", "sqlite+aiosqlite:////x/y.db"),
        ("TOLLGATE_PORT", "", "port", 8000),
    ],
)
def test_a_variable_reaches_its_field(tmp_path: Path, variable: str, text: str, field: str, value: Any) -> None:
    """An empty one is as good as unset."""
    assert getattr(_load(tmp_path, **{variable: text}), field) == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        *(("TOLLGATE_PORT", text) for text in ("0", "65536", "-1", "http", "8000.0", "\u0663", "1_000", " 1")),
        ("TOLLGATE_WORKERS", "many"),
        ("TOLLGATE_WORKERS", "257"),
        ("TOLLGATE_SHARDS", "0"),
        ("TOLLGATE_LEASE_SECONDS", "0"),
        ("TOLLGATE_MAX_BODY_BYTES", "1"),
        ("TOLLGATE_DRAIN_SECONDS", "99999"),
        ("TOLLGATE_LOG_LEVEL", "loud"),
        ("TOLLGATE_DATABASE_URL", "mysql://h/d"),
        ("TOLLGATE_DATABASE_URL", "tollgate.db"),
        *(
            ("TOLLGATE_CORS_ORIGINS", text)
            for text in ("app.example.com", "https://a.example/path", "https://*/", "x *")
        ),
    ],
)
def test_a_bad_variable_is_named(tmp_path: Path, variable: str, text: str) -> None:
    """Whoever set it has to know which one."""
    with pytest.raises(SettingsError, match=variable):
        _load(tmp_path, **{variable: text})


def test_a_data_dir_keeps_its_secret(tmp_path: Path) -> None:
    """Made at the first start, readable by its owner alone, and the same ever after: else no credential would open."""
    first = _load(tmp_path / "new" / "dir").secret_key
    assert _load(tmp_path / "new" / "dir").secret_key == first
    assert _load(tmp_path / "other").secret_key != first
    kept = tmp_path / "new" / "dir" / "secret.key"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert list(kept.parent.iterdir()) == [kept]


def test_a_secret_of_ones_own_leaves_no_file(tmp_path: Path) -> None:
    """What is set in the environment is not written down."""
    _load(tmp_path, TOLLGATE_SECRET_KEY=SECRET_KEY)
    assert list(tmp_path.iterdir()) == []


def test_two_first_starts_agree_on_one_secret(tmp_path: Path) -> None:
    """Even when they come at the same moment: the file appears whole."""
    program = "from app.settings import load_settings; print(load_settings().secret_key)"
    environ = os.environ | {"TOLLGATE_DATA_DIR": str(tmp_path)}
    starts = [
        subprocess.Popen([sys.executable, "-c", program], env=environ, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    found = [start.communicate(timeout=30)[0].strip() for start in starts]
    assert found[0] == found[1] != ""
