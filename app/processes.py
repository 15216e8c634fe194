"""What the supervisor starts: `python -m app.processes worker SUPERVISOR FD | bookkeeper SUPERVISOR`. Each ends itself
when its supervisor, told by its pid, is gone; and each loads only the rooms that it works in.
"""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Generator

import uvloop

from app.base.addresses import read_network
from app.base.crypto import UnsealError
from app.base.errors import TollgateError
from app.books import make_bookkeeper, open_books
from app.settings import Settings, SettingsError, load_settings, start_logging

__all__ = ["run_bookkeeper", "run_worker"]

_PARENT_EVERY_S = 1.0
_KEEP_ALIVE_S = 75
_LOOPBACK = (read_network("127.0.0.0/8"), read_network("::1"))
_INTERRUPTED_S = 5  # for streams to say that they are cut off, and to settle


async def run_worker(settings: Settings, supervisor: int, door_fd: int) -> None:
    """Serves the listening socket `door_fd` until SIGTERM, then drains."""
    # Read by the HTTP client's allocator when it is loaded. Huge pages, of which it uses little, make an open stream a
    # third larger.
    os.environ.setdefault("MIMALLOC_ALLOW_THP", "0")
    import uvicorn  # noqa: PLC0415 (the bookkeeper does without these)

    from app.http import HttpProtocol  # noqa: PLC0415
    from app.http_places import Places  # noqa: PLC0415
    from app.main import create_app  # noqa: PLC0415

    class Server(uvicorn.Server):
        """uvicorn raises the signal again once it has shut down; here the end of a drain is an exit with 0."""

        @contextlib.contextmanager
        def capture_signals(self) -> Generator[None, None, None]:
            yield

    class Protocol(HttpProtocol):
        places = Places(settings.connections_per_address, (*settings.trusted_networks, *_LOOPBACK))

    books = await open_books(settings)
    app = create_app(books)
    config = uvicorn.Config(
        app,
        interface="asgi3",
        http=Protocol,
        ws="none",
        proxy_headers=False,  # the door reads them, where they may be believed
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.drain_seconds + _INTERRUPTED_S,
    )
    server = Server(config)

    def stop() -> None:
        server.should_exit = True
        asyncio.get_running_loop().call_later(settings.drain_seconds, app.interrupt)

    _on_stop(stop, supervisor)
    # What was made so far lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    await server.serve(sockets=[socket.socket(fileno=door_fd)])


async def run_bookkeeper(settings: Settings, supervisor: int | None = None) -> None:
    """Posts until SIGTERM, then what is left."""
    books = await open_books(settings)
    stopping = asyncio.Event()
    _on_stop(stopping.set, supervisor)
    try:
        await make_bookkeeper(books).run(stopping)
    finally:
        await books.close()


def _on_stop(stop: Callable[[], None], supervisor: int | None) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)

    def watch_parent() -> None:
        # Told, not looked up: it may have been killed before this process could look.
        if os.getppid() != supervisor:
            stop()
        else:
            loop.call_later(_PARENT_EVERY_S, watch_parent)

    if supervisor is not None:
        watch_parent()


def _raise_file_limit() -> None:
    """To what the system allows: a stream takes two sockets, and the usual limit is 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS says "unlimited" and means less
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main(words: list[str]) -> int:
    try:
        settings = load_settings()
    except SettingsError as error:  # the file of a secret has changed since the start
        sys.stderr.write(f"{error}\n")
        return 2
    start_logging(settings)
    _raise_file_limit()
    try:
        match words:
            case ["worker", supervisor, door_fd]:
                uvloop.run(run_worker(settings, int(supervisor), int(door_fd)))
            case ["bookkeeper", supervisor]:
                uvloop.run(run_bookkeeper(settings, int(supervisor)))
            case _:
                return 2
    except (TollgateError, LookupError, UnsealError) as error:
        logging.getLogger("tollgate").error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
