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
from pyreqwest.request import RequestBody, RequestBuilder, StreamRequest
from pyreqwest.response import Response

from app.base.clock import monotonic_ms
from app.catalog.records import Timeouts
from app.proxy.relay.bounds import (
    ANSWER_BYTES_MOST,
    ANSWER_TOO_LARGE,
    ERROR_BYTES_MOST,
    HEADERS_TOO_LARGE,
)
from app.proxy.relay.upstream import USER_AGENT, Call, Opened, Plain, Reach, Route, UpstreamFault

__all__ = ["LibraryTransport"]

_POOL_IDLE = timedelta(seconds=60)
# A plain answer of so many bytes is there with its head: all of it then costs one wait.
_WITH_HEAD = 64 * 1024
# What the causes of a failed connection say: the library has no kinds for these.
_SAYS_DNS = ("dns error", "error resolving")
_SAYS_TLS = ("certificate", "tls", "corrupt message", "handshake", "fatal alert", "keys may not be consistent")
# Its own bounds: 100 headers and 400 KiB of them, 16 KiB over HTTP/2, and what may stand beside a body in chunks.
_SAYS_HEADERS = ("message head is too large", "chunk trailers", "chunk extensions over limit")


class _Form(msgspec.Struct, frozen=True):
    """A request without its body, made once for all calls of a route: a copy takes a third of the time."""

    plain: StreamRequest
    streamed: StreamRequest


class LibraryTransport:
    """One pool of connections for each reach in use; hosts share it."""

    def __init__(self) -> None:
        self._clients: dict[Reach, Client] = {}
        self._forms: WeakKeyDictionary[Route, _Form] = WeakKeyDictionary()  # gone with their routes

    async def fetch(self, call: Call) -> Plain:
        timeouts, started_ms = call.route.timeouts, monotonic_ms()
        request = StreamRequest.from_request_and_body(self._form(call.route).plain, RequestBody.from_bytes(call.body))
        try:
            if timeouts.first_token_ms is None:
                response = await request.__aenter__()
            else:
                async with asyncio.timeout(timeouts.first_token_ms / 1000):
                    response = await request.__aenter__()
            try:
                body = await _whole(response)
            finally:
                await _leave(request)
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
            return _Form(
                builder().streamed_read_buffer_limit(_WITH_HEAD).build_streamed(),
                builder().streamed_read_buffer_limit(0).build_streamed(),
            )
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
        .zstd(False)  # its decoder may be told to keep 128 MiB
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
        await _leave(self._request)


async def _leave(request: StreamRequest) -> None:
    """Where its answer has not been read to the end, its connection is closed."""
    with suppress(PyreqwestError):
        await request.__aexit__(None, None, None)


async def _whole(response: Response) -> bytes:
    """Its body, decompressed. Raises PyreqwestError, and UpstreamFault where it is too large."""
    most = ANSWER_BYTES_MOST if response.status == 200 else ERROR_BYTES_MOST
    body = await response.body_reader.read(most + 1)
    if body is None:
        return b""
    if len(body) > most:
        raise UpstreamFault(ANSWER_TOO_LARGE)
    return bytes(body)


def _fault(error: Exception, timeouts: Timeouts, started_ms: int) -> UpstreamFault:
    if isinstance(error, ConnectTimeoutError):
        # The library says so of every answer that does not begin in time: all of it took longer than a connection may.
        return UpstreamFault("timeout" if monotonic_ms() - started_ms >= timeouts.total_ms else "connect_timeout")
    if isinstance(error, (RequestTimeoutError, TimeoutError)):
        return UpstreamFault("timeout")
    causes: list[Any] = error.details["causes"] or [] if isinstance(error, DetailedPyreqwestError) else []
    if not isinstance(error, ConnectError):
        is_head = any(words in cause["message"] for cause in causes for words in _SAYS_HEADERS)
        return UpstreamFault(HEADERS_TOO_LARGE if is_head else "network")
    said = " ".join(cause["message"].lower() for cause in causes[1:])  # the first names the address
    if any(words in said for words in _SAYS_DNS):
        return UpstreamFault("dns")
    return UpstreamFault("tls" if any(words in said for words in _SAYS_TLS) else "connect")
