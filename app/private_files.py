"""What this gateway keeps on the disk is its owner's alone, whatever the umask, also what an earlier version left open.
Only what it writes itself is touched: a data dir may hold files of somebody else's."""

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.engine import make_url

from app.settings import Settings

__all__ = ["keep_private"]

log = logging.getLogger("tollgate.files")

_NOT_OWNERS = stat.S_IRWXG | stat.S_IRWXO
_FILES = ("secret.key", "admin.key", "serve.lock", "redis.sock")
_FOLDERS = ("redis", "spool")
_OF_SQLITE = ("", "-wal", "-shm", "-journal")


def keep_private(settings: Settings) -> None:
    """From now on, nothing that this process and its children make can be opened by others; nor can what is there. What
    belongs to another user is named in the log and left as it is."""
    os.umask(_NOT_OWNERS)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in _ours(settings):
        try:
            _close_to_others(path)
        except FileNotFoundError:
            continue  # another process has removed it meanwhile
        except OSError as error:
            log.warning("others may read %s, and that can't be changed: %s", path, error.strerror)


def _ours(settings: Settings) -> Iterator[Path]:
    yield settings.data_dir
    for name in _FILES:
        yield settings.data_dir / name
    for name in _FOLDERS:
        yield settings.data_dir / name
        yield from (settings.data_dir / name).rglob("*")
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite" and url.database:
        database = Path(url.database).resolve()
        for suffix in _OF_SQLITE:
            yield database.with_name(database.name + suffix)


def _close_to_others(path: Path) -> None:
    """Raises OSError. A link is left as it is, and so is a folder that everybody may write to, such as /tmp: closing it
    would lock the others out."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode) or not mode & _NOT_OWNERS:
        return
    if stat.S_ISDIR(mode) and mode & stat.S_ISVTX:
        log.warning("%s is open to everybody: TOLLGATE_DATA_DIR had better be a folder of its own", path)
        return
    path.chmod(stat.S_IMODE(mode) & ~_NOT_OWNERS)
