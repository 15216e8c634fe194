"""`tollgate serve`: one process that keeps the others. It starts the embedded Redis, brings the schema up to date,
binds the port, and runs the workers and the bookkeeper; one that dies is started again. SIGTERM ends them in the order
that loses nothing: the workers drain and settle, the bookkeeper posts what they left, Redis closes its file.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from redis.exceptions import RedisError

from app.base.database import Database
from app.base.redis import connect, embedded_command, embedded_url
from app.first_start import Welcome, set_up
from app.schema import migrate
from app.sealed_rows import check_secret_key
from app.settings import Settings

__all__ = ["AlreadyRunning", "serve"]

log = logging.getLogger("tollgate.supervisor")

_RESTART_FIRST_S = 0.2
_RESTART_MOST_S = 10.0
_STEADY_S = 10.0
_REDIS_START_S = 30.0
_POSTING_S = 60.0
_BACKLOG = 2048


class AlreadyRunning(Exception):
    """Another `tollgate serve` has this data dir, or the port."""


async def serve(settings: Settings, welcome: Callable[[Welcome], None], *, with_bookkeeper: bool = True) -> None:
    """Runs until SIGTERM or SIGINT. Raises AlreadyRunning, ServiceUnavailable where the database is away, and
    UnsealError where the secret key is not the one that its rows were sealed with."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    with _locked(settings.data_dir):
        redis = await _start_redis(settings) if settings.embedded_redis else None
        try:
            await _prepare(settings, welcome)
            with _bound(settings.host, settings.port) as door:
                await _run_house(settings, door, stopping, with_bookkeeper)
        finally:
            if redis is not None:
                await redis.stop(_REDIS_START_S)
    log.info("stopped")


async def _run_house(settings: Settings, door: socket.socket, stopping: asyncio.Event, with_bookkeeper: bool) -> None:
    bookkeepers = [Child("bookkeeper", _ours("bookkeeper", str(os.getpid())))] if with_bookkeeper else []
    workers = [
        Child(f"worker {number + 1}", _ours("worker", str(os.getpid()), str(door.fileno())), keep_fds=(door.fileno(),))
        for number in range(settings.worker_count)
    ]
    for child in (*bookkeepers, *workers):
        child.keep()
    log.info("serving on http://%s:%d with %d workers", settings.host, settings.port, len(workers))
    await stopping.wait()
    log.info("stopping: running streams have %d s", settings.drain_seconds)
    door.close()  # with the workers' own, so that nobody waits at a door that nobody opens
    await asyncio.gather(*(worker.stop(settings.drain_seconds + 10) for worker in workers))
    for bookkeeper in bookkeepers:
        await bookkeeper.stop(_POSTING_S)


class Child:
    """A process that is started again when it dies, later each time, until it is stopped."""

    def __init__(self, name: str, command: Sequence[str], keep_fds: Sequence[int] = ()) -> None:
        self._name = name
        self._command = command
        self._keep_fds = keep_fds
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = False

    def keep(self) -> None:
        self._keeper = asyncio.create_task(self._keep(), name=self._name)

    async def stop(self, patience_s: float) -> None:
        """SIGTERM, and SIGKILL for what is still there after `patience_s`."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), patience_s)
            except TimeoutError:
                log.error("%s did not stop in %.0f s and is killed", self._name, patience_s)
                process.kill()
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        pause_s = _RESTART_FIRST_S
        while not self._stopping:
            started = loop.time()
            # A session of its own: Ctrl-C at the terminal is for this process, which ends the others in order.
            self._process = await asyncio.create_subprocess_exec(
                *self._command, pass_fds=self._keep_fds, start_new_session=True
            )
            log.info("%s started, pid %d", self._name, self._process.pid)
            code = await self._process.wait()
            if loop.time() - started > _STEADY_S:
                pause_s = _RESTART_FIRST_S
            if not self._stopping:
                log.error("%s died (%s), started again in %.1f s", self._name, _cause(code), pause_s)
                await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _RESTART_MOST_S)


async def _start_redis(settings: Settings) -> Child:
    url = embedded_url(settings.data_dir)
    await _end_orphan(url)
    child = Child("redis", embedded_command(settings.data_dir))
    child.keep()
    async with asyncio.timeout(_REDIS_START_S):
        while not await _answers(url):
            await asyncio.sleep(0.02)
    return child


async def _end_orphan(url: str) -> None:
    """An embedded Redis whose supervisor was killed still has the files: two on one file would break it."""
    if not await _answers(url):
        return
    log.warning("an embedded Redis of an earlier run is still there; it is ended first")
    client = connect(url)
    with contextlib.suppress(RedisError, OSError):
        await client.shutdown(nosave=True)
    await client.aclose()
    async with asyncio.timeout(_REDIS_START_S):
        while await _answers(url):
            await asyncio.sleep(0.05)


async def _answers(url: str) -> bool:
    client = connect(url)
    try:
        return bool(await client.ping())
    except (RedisError, OSError):
        return False
    finally:
        await client.aclose()


async def _prepare(settings: Settings, welcome: Callable[[Welcome], None]) -> None:
    database = Database(settings.database_url)
    try:
        await migrate(database)
        first = await set_up(database, settings)
        await check_secret_key(database, settings.sealer())
    finally:
        await database.close()
    if first is not None:
        welcome(first)


@contextlib.contextmanager
def _locked(data_dir: Path) -> Generator[None, None, None]:
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "serve.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AlreadyRunning(f"another `tollgate serve` is using {data_dir}") from None
        yield


def _bound(host: str, port: int) -> socket.socket:
    """One listening socket for all workers: a worker that dies takes no waiting connection with it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    door = socket.socket(family)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind((host, port))
    except OSError as error:
        door.close()
        raise AlreadyRunning(f"can't listen on {host}:{port}: {error.strerror}") from None
    door.listen(_BACKLOG)
    return door


def _ours(*words: str) -> list[str]:
    return [sys.executable, "-m", "app.processes", *words]


def _cause(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
