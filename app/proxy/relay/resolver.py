"""Host names, looked up in threads of their own: however slow one name is, no other waits for it, and nor does the end
of the process."""

import asyncio
import socket
import threading
from contextlib import suppress

__all__ = ["Resolver"]

Lookup = asyncio.Future[list[str]]


class Resolver:
    """Those that ask for one name at the same time share its look-up."""

    def __init__(self) -> None:
        self._lookups: dict[str, Lookup] = {}

    async def find(self, host: str) -> list[str]:
        """Its addresses, best first. Raises OSError (`socket.gaierror`)."""
        lookup = self._lookups.get(host)
        if lookup is None:
            lookup = self._lookups[host] = self._begin(host)
        return await asyncio.shield(lookup)

    def _begin(self, host: str) -> Lookup:
        loop = asyncio.get_running_loop()
        lookup: Lookup = loop.create_future()
        lookup.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be waiting any more

        def finish(found: list[str] | OSError) -> None:
            del self._lookups[host]
            if isinstance(found, OSError):
                lookup.set_exception(found)
            else:
                lookup.set_result(found)

        def look_up() -> None:
            found = _addresses(host)
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(finish, found)

        threading.Thread(target=look_up, name=f"dns {host}", daemon=True).start()
        return lookup


def _addresses(host: str) -> list[str] | OSError:
    try:
        return list(
            dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
        )
    except OSError as error:
        return error
    except UnicodeError as error:  # a label that is empty, or too long
        return socket.gaierror(str(error))
