"""The vendor of a run: does what the prompt of each request says, and writes down what it served.

Its journal is a file that is only appended to, a line at a time, unbuffered: `seen 100017` when a request is there,
`whole 100017 12` when the last byte of its answer went to a connection still open, `left 100017 3` when that connection
had gone. It listens on 127.0.0.1 alone, and refuses bodies above 1 MiB.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

import msgspec
import uvloop

from benchmarks.chaos.errand import PROMPT_TOKENS, UPSTREAM_MODEL, Errand, Served

BODY_BYTES_MAX = 1 << 20


class _Message(msgspec.Struct):
    content: str


class _Request(msgspec.Struct):
    messages: list[_Message]
    stream: bool = False


_request = msgspec.json.Decoder(_Request)
_errand = msgspec.json.Decoder(Errand)


class Journal:
    """The file, opened to append."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, what: str, serial: int, frames: int = 0) -> None:
        os.write(self._fd, f"{what} {serial} {frames}\n".encode())


def read_journal(path: Path) -> dict[int, Served]:
    """What was served, by serial. Raises ValueError for a line that is not the upstream's."""
    served: dict[int, Served] = {}
    for line in path.read_text().splitlines():
        what, serial, frames = line.split()
        one = served.setdefault(int(serial), Served())
        if what == "seen":
            one.seen += 1
        elif what == "whole":
            one.whole += 1
        one.frames = max(one.frames, int(frames))
    return served


def _head(status: str, kind: str, length: int | None) -> bytes:
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{framing}\r\n\r\n".encode()


def _chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def _usage(errand: Errand) -> dict[str, int]:
    total = PROMPT_TOKENS + errand.serial
    return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": errand.serial, "total_tokens": total}


def _event(choices: list[object], **more: object) -> bytes:
    event = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": UPSTREAM_MODEL, "choices": choices}
    return _chunk(b"data: " + msgspec.json.encode(event | more) + b"\n\n")


def _delta(delta: dict[str, str], finish: str | None = None) -> list[object]:
    return [{"index": 0, "delta": delta, "finish_reason": finish}]


class Vendor:
    """Answers connections, one request after another on each."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, msgspec.MsgspecError, ValueError):
            pass  # a caller that was killed, or none of ours
        finally:
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
        if length > BODY_BYTES_MAX:
            return False
        body = _request.decode(await reader.readexactly(length))
        errand = _errand.decode(body.messages[-1].content)
        self._journal.note("seen", errand.serial)
        await asyncio.sleep(errand.wait_ms / 1000)
        if errand.ending == "refused":
            text = b'{"error": {"message": "overloaded", "type": "server_error"}}'
            writer.write(_head("500 Internal Server Error", "application/json", len(text)) + text)
            await writer.drain()
            return True
        if errand.stream:
            return await self._stream(errand, writer)
        answer = {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": UPSTREAM_MODEL,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Paid."}, "finish_reason": "stop"}],
            "usage": _usage(errand),
        }
        text = msgspec.json.encode(answer)
        self._end(writer, _head("200 OK", "application/json", len(text)) + text, errand.serial, 0)
        return True

    async def _stream(self, errand: Errand, writer: asyncio.StreamWriter) -> bool:
        writer.write(_head("200 OK", "text/event-stream", None) + _event(_delta({"role": "assistant", "content": ""})))
        for number in range(errand.frames):
            if writer.transport.is_closing():
                self._journal.note("left", errand.serial, number)
                return False
            writer.write(_event(_delta({"content": f"#{number} "})))
            await asyncio.sleep(errand.gap_ms / 1000)
        if errand.ending == "cut":
            self._journal.note("cut", errand.serial, errand.frames)
            return False
        end = _event(_delta({}, "stop")) + _event([], usage=_usage(errand)) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
        self._end(writer, end, errand.serial, errand.frames)
        return True

    def _end(self, writer: asyncio.StreamWriter, data: bytes, serial: int, frames: int) -> None:
        gone = writer.transport.is_closing()
        writer.write(data)
        self._journal.note("left" if gone else "whole", serial, frames)


async def _serve(journal: Journal) -> None:
    server = await asyncio.start_server(Vendor(journal).serve, "127.0.0.1", 0, backlog=1024, limit=1 << 16)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """Serves until it is ended; the port is printed once it listens."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos.upstream", description=__doc__)
    parser.add_argument("journal", type=Path)
    uvloop.run(_serve(Journal(parser.parse_args().journal)))


if __name__ == "__main__":
    main()
