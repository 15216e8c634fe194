"""Network addresses: sets of networks, and who really calls where proxies stand in between."""

import ipaddress
from collections.abc import Iterable, Sequence

__all__ = ["Network", "client_address", "is_within", "neighbourhood", "read_address", "read_network"]

# Version, first and last: whether an address is in it is two comparisons.
Network = tuple[int, int, int]

_HOPS_MOST = 20
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")  # IPv4 inside IPv6
_HOST_BITS = 64  # a customer has all of the addresses that differ in these only


def read_network(text: str) -> Network:
    """Of `192.0.2.0/24`, or one address. Raises ValueError."""
    net = ipaddress.ip_network(text)
    first, last = int(net.network_address), int(net.broadcast_address)
    if isinstance(net, ipaddress.IPv6Network) and net.subnet_of(_MAPPED):
        return (4, first & 0xFFFFFFFF, last & 0xFFFFFFFF)
    return (net.version, first, last)


def read_address(text: str) -> tuple[int, int] | None:
    """Version and number; None where it is no address. IPv4 inside IPv6 is the IPv4 that it is."""
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return (parsed.version, int(parsed))


def is_within(text: str, networks: Iterable[Network]) -> bool:
    """What is no address is nowhere."""
    address = read_address(text)
    if address is None:
        return False
    version, number = address
    return any(version == each and first <= number <= last for each, first, last in networks)


def client_address(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """Who calls: the peer, or where that is a trusted proxy, the last hop that `X-Forwarded-For` (its headers, in their
    order) names and that is none. What stands left of that hop the caller may have made up; so may what stands left of
    a word that is no address, and then the proxy that passed it on is who is known."""
    address = peer
    hops = ",".join(forwarded).rsplit(",", _HOPS_MOST)[-_HOPS_MOST:]
    while hops and is_within(address, trusted):
        hop = _without_port(hops.pop().strip())
        if read_address(hop) is None:
            break
        address = hop
    return address


def neighbourhood(text: str) -> tuple[int, int] | None:
    """What one customer is likely to have to itself: an IPv4 address, or a /64 of IPv6. None stands for all that is no
    address."""
    address = read_address(text)
    if address is None or address[0] == 4:
        return address
    return (6, address[1] >> _HOST_BITS)


def _without_port(hop: str) -> str:
    """Some proxies write `192.0.2.1:1234` and `[2001:db8::1]:1234`."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
