"""Vendors over TLS, HTTP/2 or a proxy: `pyreqwest`, whose TLS runs beside Python. Foreign exceptions stop here."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import (
    ConnectError,
    ConnectTimeoutError,
    DetailedPyreqwestError,
    PyreqwestError,
    RequestTimeoutError,
)
from pyreqwest.proxy import ProxyBuilder
from pyreqwest.request import ConsumedRequest, RequestBody, RequestBuilder, StreamRequest
from pyreqwest.response import Response

from app.base.clock import monotonic_ms
from app.catalog.records import Timeouts
from app.proxy.relay.upstream import USER_AGENT, Call, Opened, Plain, Reach, Route, UpstreamFault

__all__ = ["LibraryTransport"]

_POOL_IDLE = timedelta(seconds=60)
# What the causes of a failed connection say: the library has no kinds for these.
_SAYS_DNS = ("dns error", "error resolving")
_SAYS_TLS = ("certificate", "tls", "corrupt message", "handshake", "fatal alert", "keys may not be consistent")


class _Form(msgspec.Struct, frozen=True):
    """A request without its body, made once for all calls of a route: a copy takes a third of the time."""

    plain: ConsumedRequest
    streamed: StreamRequest


class LibraryTransport:
    """One pool of connections for each reach in use; hosts share it."""

    def __init__(self) -> None:
        self._clients: dict[Reach, Client] = {}
        self._forms: WeakKeyDictionary[Route, _Form] = WeakKeyDictionary()  # gone with their routes

    async def fetch(self, call: Call) -> Plain:
        timeouts, started_ms = call.route.timeouts, monotonic_ms()
        request = ConsumedRequest.from_request_and_body(self._form(call.route).plain, RequestBody.from_bytes(call.body))
        try:
            if timeouts.first_token_ms is None:
                response = await request.send()
            else:
                async with asyncio.timeout(timeouts.first_token_ms / 1000):
                    response = await request.send()
            body = bytes(await response.bytes())
        except (PyreqwestError, TimeoutError) as error:
            raise _fault(error, timeouts, started_ms) from None
        if response.status == 200:
            return Plain(200, body)
        return Plain(response.status, body, response.get_header("retry-after"), response.get_header("retry-after-ms"))

    async def open(self, call: Call) -> Opened:
        timeouts, started_ms = call.route.timeouts, monotonic_ms()
        form = self._form(call.route)
        request = StreamRequest.from_request_and_body(form.streamed, RequestBody.from_bytes(call.body))
        try:
            response = await request.__aenter__()
        except PyreqwestError as error:
            raise _fault(error, timeouts, started_ms) from None
        return _VendorAnswer(request, response, timeouts, started_ms)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()

    def _form(self, route: Route) -> _Form:
        form = self._forms.get(route)
        if form is None:
            form = self._forms[route] = self._make_form(route)
        return form

    def _make_form(self, route: Route) -> _Form:
        """Raises UpstreamFault where an operator's setting is none that a connection can be made with."""

        def builder() -> RequestBuilder:
            return (
                client.post(route.url).headers(route.headers).timeout(timedelta(milliseconds=route.timeouts.total_ms))
            )

        client = self._client(route.reach)
        try:
            # With its default limit it holds the first bytes back, and keeps the connection after a cancel.
            return _Form(builder().build(), builder().streamed_read_buffer_limit(0).build_streamed())
        except ValueError:  # pyreqwest's own BuilderError is one as well
            raise UpstreamFault("connect") from None

    def _client(self, reach: Reach) -> Client:
        client = self._clients.get(reach)
        if client is None:
            # Those of no route any more are let go, not closed: their last requests end in peace.
            for unused in self._clients.keys() - {route.reach for route in self._forms}:
                del self._clients[unused]
            client = self._clients[reach] = _build(reach)
        return client


def _build(reach: Reach) -> Client:
    """Raises UpstreamFault."""
    builder = (
        ClientBuilder()
        .user_agent(USER_AGENT)
        .connect_timeout(timedelta(milliseconds=reach.connect_ms))
        .pool_idle_timeout(_POOL_IDLE)
        .follow_redirects(False)  # a credential is for the vendor it was given to
        .tcp_nodelay(True)
        .http2(reach.http2)
    )
    try:
        if reach.proxy is not None:
            builder = builder.proxy(ProxyBuilder.all(reach.proxy))
    except ValueError:
        raise UpstreamFault("connect") from None
    tls = reach.tls
    try:
        if not tls.verify:
            builder = builder.danger_accept_invalid_certs(True)
        if tls.ca_pem is not None:
            builder = builder.add_root_certificate_pem(tls.ca_pem.encode())
        if tls.identity_pem is not None:
            builder = builder.identity_pem(tls.identity_pem.encode())
        if tls.min_version is not None:
            builder = builder.min_tls_version("TLSv1.3" if tls.min_version == "1.3" else "TLSv1.2")
        return builder.build()
    except ValueError:
        raise UpstreamFault("tls") from None


class _VendorAnswer:
    def __init__(self, request: StreamRequest, response: Response, timeouts: Timeouts, started_ms: int) -> None:
        self._request = request
        self._reader = response.body_reader
        self._timeouts = timeouts
        self._started_ms = started_ms
        self.status = response.status
        self.retry_after = response.get_header("retry-after")
        self.retry_after_ms = response.get_header("retry-after-ms")

    async def read(self) -> bytes | None:
        try:
            chunk = await self._reader.read_chunk()
        except PyreqwestError as error:
            raise _fault(error, self._timeouts, self._started_ms) from None
        return None if chunk is None else bytes(chunk)

    async def close(self) -> None:
        with suppress(PyreqwestError):
            await self._request.__aexit__(None, None, None)


def _fault(error: Exception, timeouts: Timeouts, started_ms: int) -> UpstreamFault:
    if isinstance(error, ConnectTimeoutError):
        # The library says so of every answer that does not begin in time: all of it took longer than a connection may.
        return UpstreamFault("timeout" if monotonic_ms() - started_ms >= timeouts.total_ms else "connect_timeout")
    if isinstance(error, (RequestTimeoutError, TimeoutError)):
        return UpstreamFault("timeout")
    if not isinstance(error, ConnectError):
        return UpstreamFault("network")
    causes: list[Any] = error.details["causes"] or [] if isinstance(error, DetailedPyreqwestError) else []
    said = " ".join(cause["message"].lower() for cause in causes[1:])  # the first names the address
    if any(words in said for words in _SAYS_DNS):
        return UpstreamFault("dns")
    return UpstreamFault("tls" if any(words in said for words in _SAYS_TLS) else "connect")
