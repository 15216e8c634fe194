"""The transport to vendors: each route goes the way that suits it."""

from collections.abc import Coroutine
from typing import Any
from weakref import WeakKeyDictionary

from app.proxy.relay.cleartext import CleartextTransport, serves
from app.proxy.relay.library import LibraryTransport
from app.proxy.relay.upstream import Call, Opened, Plain, Route, Transport

__all__ = ["VendorTransport"]


class VendorTransport:
    def __init__(self) -> None:
        self._cleartext = CleartextTransport()
        self._library = LibraryTransport()
        self._chosen: WeakKeyDictionary[Route, Transport] = WeakKeyDictionary()

    def fetch(self, call: Call) -> Coroutine[Any, Any, Plain]:
        return self._choose(call.route).fetch(call)

    def open(self, call: Call) -> Coroutine[Any, Any, Opened]:
        return self._choose(call.route).open(call)

    async def close(self) -> None:
        await self._cleartext.close()
        await self._library.close()

    def _choose(self, route: Route) -> Transport:
        transport = self._chosen.get(route)
        if transport is None:
            transport = self._chosen[route] = self._cleartext if serves(route) else self._library
        return transport
