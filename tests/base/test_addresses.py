"""Who calls, where proxies stand in between: only what a trusted one says is believed."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.base.addresses import client_address, is_within, neighbourhood, read_network

TRUSTED = tuple(read_network(each) for each in ("10.0.0.0/8", "2001:db8::/32"))
OUTSIDE = "198.51.100.7"
addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


@pytest.mark.parametrize(
    ("peer", "forwarded", "caller"),
    [
        pytest.param(OUTSIDE, ["203.0.113.9"], OUTSIDE, id="a stranger names nobody"),
        pytest.param("10.0.0.1", [], "10.0.0.1", id="a proxy that names nobody"),
        pytest.param("10.0.0.1", ["203.0.113.9"], "203.0.113.9", id="one hop"),
        pytest.param("10.0.0.1", ["203.0.113.9, 10.0.0.2"], "203.0.113.9", id="two proxies"),
        pytest.param("10.0.0.1", ["1.2.3.4, 203.0.113.9"], "203.0.113.9", id="what stands left is made up"),
        pytest.param("10.0.0.1", ["10.0.0.9, 203.0.113.9"], "203.0.113.9", id="also where it looks trusted"),
        pytest.param("10.0.0.1", ["1.2.3.4", "203.0.113.9"], "203.0.113.9", id="two headers are one list"),
        pytest.param("10.0.0.1", ["10.0.0.3,10.0.0.2"], "10.0.0.3", id="all of them proxies"),
        pytest.param("10.0.0.1", ["203.0.113.9, unknown"], "10.0.0.1", id="garbage hides what is left of it"),
        pytest.param("10.0.0.1", ["1.2.3.4, ;--, 10.0.0.2"], "10.0.0.2", id="from the proxy that passed it on"),
        pytest.param("10.0.0.1", [""], "10.0.0.1", id="an empty header"),
        pytest.param("10.0.0.1", ["203.0.113.9,"], "10.0.0.1", id="an empty hop"),
        pytest.param("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9", id="a port"),
        pytest.param("10.0.0.1", ["[2001:db9::1]:4711"], "2001:db9::1", id="a port behind IPv6"),
        pytest.param("2001:db8::1", ["2001:db9::1"], "2001:db9::1", id="IPv6"),
        pytest.param("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9", id="a proxy inside IPv6"),
        pytest.param("", ["203.0.113.9"], "", id="a peer without an address"),
    ],
)
def test_who_calls(peer: str, forwarded: list[str], caller: str) -> None:
    assert client_address(peer, forwarded, TRUSTED) == caller


@given(addresses, st.lists(st.text(max_size=30), max_size=4))
def test_a_stranger_is_who_it_is(peer: str, forwarded: list[str]) -> None:
    """Whatever it sends."""
    if not is_within(peer, TRUSTED):
        assert client_address(peer, forwarded, TRUSTED) == peer


@given(st.text(alphabet="0123456789abcdef.:,[] \x00é", max_size=60), st.ip_addresses(v=4).map(str))
def test_what_a_caller_makes_up_does_not_matter(made_up: str, caller: str) -> None:
    """The trusted proxy writes the caller last: all before it is the caller's own."""
    if not is_within(caller, TRUSTED):
        assert client_address("10.0.0.1", [f"{made_up}, {caller}"], TRUSTED) == caller


def test_a_long_chain_is_not_followed_for_ever() -> None:
    """A header of a megabyte of trusted hops is cut off."""
    assert is_within(client_address("10.0.0.1", ["10.0.0.2, " * 100_000 + "10.0.0.3"], TRUSTED), TRUSTED)


@given(st.ip_addresses(v=6))
def test_a_neighbourhood_is_a_64(address: ipaddress.IPv6Address) -> None:
    if address.ipv4_mapped is None:
        flipped = ipaddress.IPv6Address(int(address) ^ (2**64 - 1))
        beyond = ipaddress.IPv6Address(int(address) ^ 2**64)
        assert neighbourhood(str(address)) == neighbourhood(str(flipped)) != neighbourhood(str(beyond))
