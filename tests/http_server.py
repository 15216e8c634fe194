"""A worker's HTTP side with an application that echoes, and a client that reads and writes bytes."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from app.http import HttpProtocol
from app.http_places import Places

__all__ = ["POST", "Application", "Connection", "Door", "served"]

POST = b"POST /%b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"


class Application:
    """Answers by the path. `seen` is what became of each request, `paths` and `headers` what came."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.paths: list[str] = []
        self.headers: list[list[tuple[bytes, bytes]]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        path = scope["path"].strip("/")
        self.paths.append(path)
        self.headers.append(scope["headers"])
        if path == "fail":
            raise LookupError("on purpose")
        if path == "slow":
            await asyncio.sleep(0.2)
        if path == "gone":
            self.seen.append((await receive())["type"])
            return
        headers = [(b"x-echo", b"a\r\nset-cookie: b")] if path == "split" else []
        text = f"{scope['method']} {path} {scope['query_string'].decode()} ".encode() + body
        if path == "close":
            headers.append((b"connection", b"close"))
        if path == "stream":
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            for _ in range(3000):
                await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            self.seen.append("streamed")
            return
        headers.append((b"content-length", b"%d" % len(text)))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, *, has_body: bool = True) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        body = b""
        if headers.get("transfer-encoding") == "chunked":
            while size := int(await self.reader.readline(), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readline()
        elif has_body and "content-length" in headers:
            body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, body

    async def ended(self) -> bool:
        return await asyncio.wait_for(self.reader.read(), 10) == b""


class Door:
    """A server on a port of its own."""

    def __init__(self, server: uvicorn.Server, port: int, app: Application) -> None:
        self.server = server
        self.port = port
        self.app = app

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Connection(reader, writer)
        finally:
            writer.close()


@asynccontextmanager
async def served(keep_alive_s: int, connections_most: int = 0) -> AsyncIterator[Door]:
    class Protocol(HttpProtocol):
        places = Places(connections_most)

    app = Application()
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, interface="asgi3", http=Protocol, ws="none", lifespan="off", log_config=None, access_log=False,
        timeout_keep_alive=keep_alive_s,
    )  # fmt: skip
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve([listener]))
    try:
        while not server.started:
            await asyncio.sleep(0.01)
        yield Door(server, listener.getsockname()[1], app)
    finally:
        server.should_exit = True
        await asyncio.wait_for(serving, 20)
