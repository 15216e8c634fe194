"""A DNS server for one name a channel, which can be slow or say nothing.

The gateway is started in a mount namespace of its own, where /etc/resolv.conf names this server and no other; nothing
changes for the rest of the machine. Both the port and the namespace need root.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PORT = 53
_ZONE = "fleet.test"
_A, _HEAD = 1, 12
SLOW_S = 3.0


def name_of(channel: int) -> str:
    return f"vendor-{channel}.{_ZONE}"


def own_address() -> str:
    """One of the loopback's, that no other run has."""
    return f"127.77.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"


def wrapping(directory: Path, address: str) -> list[str]:
    """What a command is started through, so that it asks the server at `address`; empty where this machine does not
    allow it."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return []
    settings = directory / "resolv.conf"
    settings.write_text(f"nameserver {address}\noptions timeout:5 attempts:1\n")
    script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(settings)]
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((address, _PORT))
        subprocess.run([*words, "true"], check=True, capture_output=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return []
    return words


class Resolver(asyncio.DatagramProtocol):
    """Every name is 127.0.0.1 (and has no IPv6 address), after as long as `delay_s` says of it; None: never."""

    def __init__(self, delay_s: Callable[[str], float | None]) -> None:
        self._delay_s = delay_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        with contextlib.suppress(IndexError, UnicodeDecodeError):
            name, kind, end = _question(data)
            wait_s = self._delay_s(name)
            if wait_s is not None:
                reply = _reply(data, end, has_address=kind == _A)
                asyncio.get_running_loop().call_later(wait_s, self._transport.sendto, reply, addr)  # type: ignore[attr-defined]


async def start_resolver(address: str, delay_s: Callable[[str], float | None]) -> asyncio.BaseTransport:
    """Raises OSError."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Resolver(delay_s), local_addr=(address, _PORT))
    return transport


def _question(query: bytes) -> tuple[str, int, int]:
    """Name, type, and where the question ends (RFC 1035, 4.1)."""
    labels, at = [], _HEAD
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode("ascii"))
        at += 1 + length
    return ".".join(labels).lower(), int.from_bytes(query[at + 1 : at + 3], "big"), at + 5


def _reply(query: bytes, end: int, *, has_address: bool) -> bytes:
    """To the question alone: what a resolver adds to it (EDNS) is left out."""
    flags = b"\x81\x80"  # an answer, with recursion
    counts = b"\0\1" + (b"\0\1" if has_address else b"\0\0") + b"\0\0\0\0"
    address = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton("127.0.0.1") if has_address else b""
    return query[:2] + flags + counts + query[_HEAD:end] + address
