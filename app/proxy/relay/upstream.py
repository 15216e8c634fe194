"""The transport to vendors, behind an interface of ours: `pyreqwest` for real ones (`sandbox.py` for the built-in one).
Foreign exceptions stop here."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Protocol

import msgspec
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import ConnectError, ConnectTimeoutError, PyreqwestError, RequestTimeoutError
from pyreqwest.request import ConsumedRequest, RequestBody, RequestBuilder, StreamRequest
from pyreqwest.response import Response

from app.catalog.records import Timeouts

__all__ = ["Call", "Opened", "Plain", "Transport", "UpstreamFault", "VendorTransport"]

_POOL_IDLE = timedelta(seconds=60)
_FORMS_MOST = 1000


class UpstreamFault(Exception):
    """No answer, or no more of it: `kind` is connect, connect_timeout, timeout or network."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Call(msgspec.Struct, frozen=True):
    """One request to a vendor."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    timeouts: Timeouts


class Plain(msgspec.Struct, frozen=True):
    """A whole answer."""

    status: int
    body: bytes
    retry_after: str | None = None
    retry_after_ms: str | None = None


class Opened(Protocol):
    """An answer whose body is still coming. `close` may be called more than once."""

    status: int
    retry_after: str | None
    retry_after_ms: str | None

    async def read(self) -> bytes | None:
        """The next bytes as they came, None at the end. Raises UpstreamFault."""

    async def close(self) -> None: ...


class Transport(Protocol):
    async def fetch(self, call: Call) -> Plain:
        """Raises UpstreamFault."""

    async def open(self, call: Call) -> Opened:
        """Raises UpstreamFault."""

    async def close(self) -> None: ...


class _Form(msgspec.Struct, frozen=True):
    """A request without its body, made once for all calls that share `headers`: a copy takes a third of the time."""

    url: str
    headers: Mapping[str, str]
    timeouts: Timeouts
    plain: ConsumedRequest
    streamed: StreamRequest

    def fits(self, call: Call) -> bool:
        return self.headers is call.headers and self.timeouts == call.timeouts and self.url == call.url


class VendorTransport:
    """One pool of connections for each connect timeout in use; hosts share it."""

    def __init__(self) -> None:
        self._clients: dict[int, Client] = {}
        self._forms: dict[int, _Form] = {}

    async def fetch(self, call: Call) -> Plain:
        timeouts = call.timeouts
        request = ConsumedRequest.from_request_and_body(self._form(call).plain, RequestBody.from_bytes(call.body))
        try:
            if timeouts.first_token_ms is None:
                response = await request.send()
            else:
                async with asyncio.timeout(timeouts.first_token_ms / 1000):
                    response = await request.send()
            body = bytes(await response.bytes())
        except (PyreqwestError, TimeoutError) as error:
            raise _fault(error) from None
        if response.status == 200:
            return Plain(200, body)
        return Plain(response.status, body, response.get_header("retry-after"), response.get_header("retry-after-ms"))

    async def open(self, call: Call) -> Opened:
        request = StreamRequest.from_request_and_body(self._form(call).streamed, RequestBody.from_bytes(call.body))
        try:
            response = await request.__aenter__()
        except PyreqwestError as error:
            raise _fault(error) from None
        return _VendorAnswer(request, response)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()

    def _form(self, call: Call) -> _Form:
        form = self._forms.get(id(call.headers))
        if form is not None and form.fits(call):
            return form

        def builder() -> RequestBuilder:
            return (
                self._client(call.timeouts.connect_ms)
                .post(call.url)
                .headers(call.headers)
                .timeout(timedelta(milliseconds=call.timeouts.total_ms))
            )

        form = _Form(
            url=call.url,
            headers=call.headers,  # kept, so that its id is nobody else's
            timeouts=call.timeouts,
            plain=builder().build(),
            # With its default limit it holds the first bytes back, and keeps the connection after a cancel.
            streamed=builder().streamed_read_buffer_limit(0).build_streamed(),
        )
        if len(self._forms) >= _FORMS_MOST:  # of channels that have changed since
            self._forms.clear()
        self._forms[id(call.headers)] = form
        return form

    def _client(self, connect_ms: int) -> Client:
        client = self._clients.get(connect_ms)
        if client is None:
            client = (
                ClientBuilder()
                .user_agent("tollgate")
                .connect_timeout(timedelta(milliseconds=connect_ms))
                .pool_idle_timeout(_POOL_IDLE)
                .follow_redirects(False)  # a credential is for the vendor it was given to
                .tcp_nodelay(True)
                .build()
            )
            self._clients[connect_ms] = client
        return client


class _VendorAnswer:
    def __init__(self, request: StreamRequest, response: Response) -> None:
        self._request = request
        self._reader = response.body_reader
        self.status = response.status
        self.retry_after = response.get_header("retry-after")
        self.retry_after_ms = response.get_header("retry-after-ms")

    async def read(self) -> bytes | None:
        try:
            chunk = await self._reader.read_chunk()
        except PyreqwestError as error:
            raise _fault(error) from None
        return None if chunk is None else bytes(chunk)

    async def close(self) -> None:
        with suppress(PyreqwestError):
            await self._request.__aexit__(None, None, None)


def _fault(error: Exception) -> UpstreamFault:
    if isinstance(error, ConnectTimeoutError):
        return UpstreamFault("connect_timeout")
    if isinstance(error, (RequestTimeoutError, TimeoutError)):
        return UpstreamFault("timeout")
    return UpstreamFault("connect" if isinstance(error, ConnectError) else "network")
