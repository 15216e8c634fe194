"""Vendors that send more than anybody can take, for as long as they are listened to."""

import threading
import zlib
from collections.abc import Callable

from tests.upstreams import Behaviour, Exchange

__all__ = ["MIB", "Flood", "bomb", "chunked", "gzipped", "with_length", "without_length"]

MIB = 1024 * 1024

Framing = Callable[[bytes], tuple[bytes, bytes]]  # of a piece: what begins the body, and the piece as it is sent


class Flood:
    """Sends `head`, then `piece` over and over, `most` bytes of it. `sent` is how many were taken off its hands, and
    `cut_off` is set once the gateway has closed the connection."""

    def __init__(self, head: bytes, piece: bytes, most: int = 400 * MIB) -> None:
        self._head, self._piece, self._most = head, piece, most
        self.sent = 0
        self.cut_off = threading.Event()

    async def __call__(self, exchange: Exchange) -> None:
        pieces = self._piece * max(1, 64 * 1024 // len(self._piece))
        try:
            await exchange.send(self._head)
            while self.sent < self._most:
                await exchange.send(pieces)
                self.sent += len(pieces)
            await exchange.reader.read(1)
        except ConnectionError:
            self.cut_off.set()
            raise
        finally:
            exchange.close()


def _head(status: int, *lines: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} Status", *lines, "", ""]).encode()


def with_length(status: int, piece: bytes) -> Flood:
    return Flood(_head(status, "content-length: 10000000000"), piece)


def chunked(status: int, piece: bytes) -> Flood:
    return Flood(_head(status, "transfer-encoding: chunked"), b"%x\r\n%b\r\n" % (len(piece), piece))


def without_length(status: int, piece: bytes) -> Flood:
    return Flood(_head(status), piece)


def gzipped(begins: bytes, filler: bytes, size: int) -> bytes:
    """So many bytes of filler, compressed a thousand times."""
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    packed = packer.compress(begins)
    for _ in range(0, size, MIB):
        packed += packer.compress(filler * (MIB // len(filler)))
    return packed + packer.flush()


def bomb(status: int, begins: bytes, filler: bytes, size: int) -> Behaviour:
    """A small answer that is `size` bytes once it is decompressed."""
    packed = gzipped(begins, filler, size)

    async def behave(exchange: Exchange) -> None:
        await exchange.whole(status, packed, content_encoding="gzip")

    return behave
