"""An outbound proxy on loopback, as companies have them: it passes plain requests on, tunnels TLS, wants a password."""

import asyncio
import base64
from contextlib import suppress
from urllib.parse import urlsplit

__all__ = ["Tunnel"]


class Tunnel:
    """Keeps the first line of every request that it let through, and counts those that it turned away."""

    def __init__(self, user: str, password: str) -> None:
        self._wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self._credentials = f"{user}:{password}"
        self.passed: list[str] = []
        self.refused = 0
        self.port = 0
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://{self._credentials}@127.0.0.1:{self.port}"

    async def __aenter__(self) -> "Tunnel":
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server
        self._server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            if headers.get("proxy-authorization") != self._wanted:
                self.refused += 1
                writer.write(b"HTTP/1.1 407 Password\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            else:
                self.passed.append(first)
                await self._pass_on(first, lines, reader, writer)
        writer.close()

    async def _pass_on(
        self, first: str, lines: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        method, target, _ = first.split(" ")
        parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
        to_reader, to_writer = await asyncio.open_connection(parts.hostname, parts.port)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        else:
            kept = [line for line in lines if line and not line.lower().startswith("proxy-")]
            to_writer.write("\r\n".join([f"{method} {parts.path} HTTP/1.1", *kept, "", ""]).encode("latin-1"))
        await asyncio.gather(_pump(reader, to_writer), _pump(to_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
