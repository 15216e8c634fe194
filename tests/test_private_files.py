"""Files of the gateway: nobody but their owner can open them, whatever the umask, also where they were there before."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.private_files import keep_private
from app.settings import Settings
from tests.gateway import Gateway
from tests.servers import Fleet


@pytest.fixture
def umask() -> Iterator[None]:
    """The usual one, 022, before the test and after it."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def _settings(data_dir: Path, database: Path | None = None) -> Settings:
    return Settings(data_dir=data_dir, database_url=f"sqlite+aiosqlite:///{database or data_dir / 'tollgate.db'}")


def _open_to_others(root: Path) -> list[str]:
    found = [root, *root.rglob("*")]
    return [f"{path} {path.lstat().st_mode:o}" for path in found if path.lstat().st_mode & 0o077]


def _kinds(gateway: Gateway) -> set[str]:
    return {path.name for path in gateway.data_dir.iterdir()}


def test_a_serving_gateway_leaves_nothing_open_to_others(fleet: Fleet, umask: None) -> None:
    """SQLite's three files, the embedded Redis's file and its socket, the spool, the lock and the secret; and where an
    earlier version left them open, they are closed at the next start."""
    gateway = fleet.new("sqlite", TOLLGATE_WORKERS="1")
    gateway.start()
    assert {"tollgate.db", "tollgate.db-wal", "redis", "redis.sock", "spool", "secret.key", "serve.lock"} <= (
        _kinds(gateway)
    )
    assert _open_to_others(gateway.data_dir) == []
    gateway.stop()

    for path in (gateway.data_dir, *gateway.data_dir.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    gateway.start()
    assert _open_to_others(gateway.data_dir) == []
    gateway.stop()


@pytest.mark.usefixtures("umask")
def test_a_database_elsewhere_is_closed_too(tmp_path: Path) -> None:
    """The file and those beside it that SQLite makes, not the folder, which may be another's."""
    folder = tmp_path / "elsewhere"
    folder.mkdir(mode=0o755)
    files = [folder / f"own.db{suffix}" for suffix in ("", "-wal", "-shm")]
    for path in (*files, folder / "other.txt"):
        path.write_text("")
    keep_private(_settings(tmp_path / "data", folder / "own.db"))
    assert [stat.S_IMODE(path.stat().st_mode) for path in files] == [0o600] * 3
    assert stat.S_IMODE((folder / "other.txt").stat().st_mode) == 0o644
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


@pytest.mark.usefixtures("umask")
def test_files_of_others_in_the_data_dir_stay_as_they_are(tmp_path: Path) -> None:
    """An operator who points TOLLGATE_DATA_DIR at a folder with more in it finds the rest unchanged."""
    other = tmp_path / "notes.txt"
    other.write_text("")
    keep_private(_settings(tmp_path))
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    assert stat.S_IMODE(other.stat().st_mode) == 0o644


@pytest.mark.usefixtures("umask")
def test_a_folder_for_everybody_is_not_taken_from_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A data dir of /tmp itself: our files are closed, the folder is not, and the log says so."""
    tmp_path.chmod(0o1777)
    (tmp_path / "secret.key").write_text("secret")
    keep_private(_settings(tmp_path))
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o1777
    assert stat.S_IMODE((tmp_path / "secret.key").stat().st_mode) == 0o600
    assert "TOLLGATE_DATA_DIR" in caplog.text


@pytest.mark.usefixtures("umask")
def test_what_a_link_points_to_is_left_alone(tmp_path: Path) -> None:
    """Whoever could write into the folder could else have any file's mode changed."""
    target = tmp_path / "target"
    target.write_text("")
    data_dir = tmp_path / "data"
    (data_dir / "spool").mkdir(parents=True)
    (data_dir / "spool" / "link").symlink_to(target)
    keep_private(_settings(data_dir))
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
