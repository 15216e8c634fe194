"""The transport to vendors: faults have names, ways are kept apart, and what is not used any more is let go."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.catalog.records import Timeouts, Tls
from app.proxy.relay.library import LibraryTransport
from app.proxy.relay.upstream import Call, Plain, Reach, Route, Transport, UpstreamFault
from app.proxy.relay.vendors import VendorTransport
from tests.behaviours import Gate, answers, hangs
from tests.certificates import Authority
from tests.tunnels import Tunnel
from tests.upstreams import Behaviour, Street, Vendor
from tests.waiting import until

BODY = b'{"model": "small", "messages": []}'
STREAMED = b'{"model": "small", "messages": [], "stream": true}'
PATIENT = Timeouts()
UNREACHABLE = "http://127.0.0.1:1/v1/chat/completions"


@pytest.fixture(scope="module", autouse=True)
def system_authorities(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One that has issued nothing: a client wants at least one."""
    file = tmp_path_factory.mktemp("authorities") / "ca.pem"
    file.write_text(Authority().ca_pem)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(file))
        yield


@pytest.fixture(params=["as it suits", "all by the library"])
async def transport(request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
    transport = VendorTransport() if request.param == "as it suits" else LibraryTransport()
    yield transport
    await transport.close()


class Bench:
    def __init__(self, street: Street) -> None:
        self._street = street
        self.opened: list[Vendor] = []

    def open(self, behaviour: Behaviour, tls: ssl.SSLContext | None = None) -> Vendor:
        self.opened.append(self._street.open(behaviour, tls))
        return self.opened[-1]


@pytest.fixture
def bench(street: Street) -> Iterator[Bench]:
    bench = Bench(street)
    yield bench
    for vendor in bench.opened:
        street.shut(vendor)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def _route(vendor: Vendor | str, timeouts: Timeouts = PATIENT, **reach: Any) -> Route:
    url = vendor if isinstance(vendor, str) else f"{vendor.base_url}/chat/completions"
    headers = {"content-type": "application/json", "authorization": "Bearer sk-vendor-secret"}
    return Route(url, headers, timeouts, Reach(timeouts.connect_ms, **reach))


async def _fetched(transport: Transport, route: Route) -> Plain:
    return await transport.fetch(Call(route, BODY))


async def _fault(transport: Transport, route: Route) -> str:
    with pytest.raises(UpstreamFault) as caught:
        await _fetched(transport, route)
    with pytest.raises(UpstreamFault) as again:
        await transport.open(Call(route, STREAMED))
    assert again.value.kind == caught.value.kind
    return caught.value.kind


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        (UNREACHABLE, "connect"),
        ("http://nobody.invalid/v1", "dns"),
        ("http://host:99999/v1", "connect"),
        ("http://[::1/v1", "connect"),
        ("vendor", "connect"),
    ],
)
async def test_a_vendor_that_is_not_there(transport: Transport, url: str, kind: str) -> None:
    """An address that is none is a fault of its channel, and nothing worse."""
    assert await _fault(transport, _route(url)) == kind


async def test_a_vendor_that_accepts_and_hangs_was_connected(transport: Transport, bench: Bench) -> None:
    """The library calls it a connect timeout."""
    vendor = bench.open(hangs())
    assert await _fault(transport, _route(vendor, Timeouts(connect_ms=50, total_ms=120))) == "timeout"


async def test_a_vendor_that_does_not_accept_was_not(transport: Transport, street: Street) -> None:
    vendor = street.swallowing(answers())
    assert await _fault(transport, _route(vendor, Timeouts(connect_ms=50))) == "connect_timeout"


async def test_a_certificate_of_nobody_known_is_refused(
    transport: Transport, bench: Bench, authority: Authority, tmp_path: Path
) -> None:
    vendor = bench.open(answers(), authority.server(tmp_path))
    assert await _fault(transport, _route(vendor)) == "tls"
    assert await _fault(transport, _route(vendor, tls=Tls(ca_pem=Authority().ca_pem))) == "tls"
    assert not vendor.requests


@pytest.mark.parametrize("how", ["its authority is trusted", "nothing is checked"])
async def test_a_certificate_that_the_operator_trusts(
    transport: Transport, bench: Bench, authority: Authority, tmp_path: Path, how: str
) -> None:
    vendor = bench.open(answers(), authority.server(tmp_path))
    tls = Tls(verify=False) if how == "nothing is checked" else Tls(ca_pem=authority.ca_pem)
    assert (await _fetched(transport, _route(vendor, tls=tls))).status == 200


async def test_a_vendor_need_not_speak_the_newer_http(
    transport: Transport, bench: Bench, authority: Authority, tmp_path: Path
) -> None:
    """HTTP/2 is offered, where the operator says so, and not insisted on."""
    for vendor in (bench.open(answers(), authority.server(tmp_path)), bench.open(answers())):
        route = _route(vendor, tls=Tls(ca_pem=authority.ca_pem), http2=True)
        assert (await _fetched(transport, route)).status == 200


async def test_a_vendor_that_wants_a_certificate_of_ours(
    transport: Transport, bench: Bench, authority: Authority, tmp_path: Path
) -> None:
    vendor = bench.open(answers(), authority.server(tmp_path, asks_clients=True))
    shown = Tls(ca_pem=authority.ca_pem, identity_pem=authority.issue("gateway"))
    assert (await _fetched(transport, _route(vendor, tls=shown))).status == 200
    with pytest.raises(
        UpstreamFault
    ):  # of what kind is chance: the alert may be overtaken by the end of the connection
        await _fetched(transport, _route(vendor, tls=Tls(ca_pem=authority.ca_pem)))
    assert len(vendor.requests) == 1


async def test_a_vendor_that_speaks_too_old_a_tls(
    transport: Transport, bench: Bench, authority: Authority, tmp_path: Path
) -> None:
    vendor = bench.open(answers(), authority.server(tmp_path, newest=ssl.TLSVersion.TLSv1_2))
    ok = Tls(ca_pem=authority.ca_pem, min_version="1.2")
    assert (await _fetched(transport, _route(vendor, tls=ok))).status == 200
    assert await _fault(transport, _route(vendor, tls=Tls(ca_pem=authority.ca_pem, min_version="1.3"))) == "tls"


async def test_tls_to_a_vendor_that_speaks_none(transport: Transport) -> None:
    async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await _fault(transport, _route(f"https://127.0.0.1:{port}/v1")) == "tls"


@pytest.mark.parametrize(
    "tls",
    [
        Tls(ca_pem="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        Tls(identity_pem="junk"),
        Tls(identity_pem=""),
    ],
)
async def test_a_certificate_that_is_none_fails_its_channel_alone(transport: Transport, tls: Tls) -> None:
    """It was refused when it was set; a database may hold one all the same."""
    assert await _fault(transport, _route(UNREACHABLE.replace("http:", "https:"), tls=tls)) == "tls"


@pytest.mark.parametrize("proxy", ["nonsense", "http://", "http://host:99999"])
async def test_a_proxy_that_is_none_fails_its_channel_alone(transport: Transport, proxy: str) -> None:
    assert await _fault(transport, _route(UNREACHABLE, proxy=proxy)) == "connect"


@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks5h"])
async def test_a_proxy_that_is_not_there(transport: Transport, scheme: str) -> None:
    assert await _fault(transport, _route(UNREACHABLE, proxy=f"{scheme}://user:pw@127.0.0.1:1")) == "connect"


async def test_a_proxy_passes_plain_requests_on(transport: Transport, bench: Bench) -> None:
    vendor = bench.open(answers())
    async with Tunnel("gateway", "open-sesame") as tunnel:
        assert (await _fetched(transport, _route(vendor, proxy=tunnel.url))).status == 200
    assert tunnel.passed == [f"POST {vendor.base_url}/chat/completions HTTP/1.1"]
    assert "proxy-authorization" not in vendor.requests[0].headers


async def test_a_proxy_tunnels_tls_and_sees_none_of_it(
    transport: Transport, bench: Bench, authority: Authority, tmp_path: Path
) -> None:
    vendor = bench.open(answers(), authority.server(tmp_path))
    async with Tunnel("gateway", "open-sesame") as tunnel:
        route = _route(vendor, proxy=tunnel.url, tls=Tls(ca_pem=authority.ca_pem))
        assert (await _fetched(transport, route)).status == 200
    assert tunnel.passed == [f"CONNECT 127.0.0.1:{vendor.port} HTTP/1.1"]


async def test_a_proxy_that_refuses_our_password(
    transport: Transport, bench: Bench, authority: Authority, tmp_path: Path
) -> None:
    vendor = bench.open(answers(), authority.server(tmp_path))
    async with Tunnel("gateway", "open-sesame") as tunnel:
        wrong = tunnel.url.replace("open-sesame", "guess")
        kind = await _fault(transport, _route(vendor, proxy=wrong, tls=Tls(ca_pem=authority.ca_pem)))
    assert (kind, tunnel.passed) == ("connect", [])
    assert tunnel.refused


async def test_a_stream_outlives_its_way(transport: Transport, bench: Bench) -> None:
    """An operator who changes a channel drops its way to the vendor; what runs over it goes on to its end."""
    gate = Gate()
    vendor = bench.open(answers(after=1, then=gate))
    route = _route(vendor, tls=Tls(verify=False))
    opened = await transport.open(Call(route, STREAMED))
    del route
    other = _route(bench.open(answers()))
    assert (await _fetched(transport, other)).status == 200
    gate.open()
    chunks = []
    while (chunk := await opened.read()) is not None:
        chunks.append(chunk)
    await opened.close()
    assert b"".join(chunks).rstrip().endswith(b"[DONE]")


async def test_ways_that_nobody_uses_are_let_go(bench: Bench) -> None:
    """However often an operator changes a channel's proxy, the pools of the past are not kept."""
    transport = LibraryTransport()
    vendor = bench.open(answers())
    for connect_ms in range(1_000, 1_020):
        assert (await _fetched(transport, _route(vendor, Timeouts(connect_ms=connect_ms)))).status == 200
    assert len(transport._clients) <= 2
    assert len(transport._forms) <= 1
    await transport.close()


async def test_calls_of_one_way_share_its_connections(transport: Transport, bench: Bench) -> None:
    vendor = bench.open(answers())
    for _ in range(3):
        route = _route(vendor)  # made anew, as for a channel whose headers have changed
        await _fetched(transport, route)
    assert len(vendor.requests) == 3
    until(lambda: vendor.connections == 1, "one connection")
