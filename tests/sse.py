"""Reads a stream the way a strict client does, by the rules of server-sent events."""

import json
from dataclasses import dataclass, field
from typing import Any

import httpx

__all__ = ["Told", "parse", "read"]


@dataclass
class Told:
    """What a stream told its reader."""

    chunks: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    done: bool = False
    last_is_error: bool = False
    raw: bytes = b""

    @property
    def text(self) -> str:
        """The text of choice 0."""
        choices = [choice for chunk in self.chunks for choice in chunk["choices"]]
        return "".join(c["delta"].get("content") or "" for c in choices if c.get("index", 0) == 0)

    @property
    def usages(self) -> list[dict[str, Any]]:
        return [chunk["usage"] for chunk in self.chunks if chunk.get("usage")]

    @property
    def finish_reasons(self) -> list[str | None]:
        return [choice.get("finish_reason") for chunk in self.chunks for choice in chunk["choices"]]


def read(response: httpx.Response) -> Told:
    """To the end of the body, which must end properly: a broken answer is told by an event."""
    return parse(response.read())


def parse(raw: bytes) -> Told:
    told = Told(raw=raw)
    for data in _events(raw):
        assert not told.done, f"an event after [DONE]: {data}"
        if data == "[DONE]":
            told.done = True
            continue
        event = json.loads(data)
        told.last_is_error = "error" in event
        if "error" in event:
            told.errors.append(event["error"])
        else:
            told.chunks.append(event)
    return told


def _events(raw: bytes) -> list[str]:
    events, data = [], []
    for line in raw.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if not line:
            if data:
                events.append("\n".join(data))
            data = []
        elif line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))
    assert not data, "the last event has no empty line after it"
    return events
