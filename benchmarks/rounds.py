"""The measurement: the same load straight to the upstream and through the gateway, in turn, so that noise
meets both.

A round visits every point; each visit is a load process of its own. What is in flight at the end of a visit
is waited for, so the sums of all visits can be held against the books.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from benchmarks.exchange import DRAIN_S, Figures, Load
from benchmarks.operator_api import MODEL
from benchmarks.processes import core_busy_s, inherited_cores

if TYPE_CHECKING:
    from benchmarks.gateway import Cores
    from benchmarks.processes import Tree

PATH = "/v1/chat/completions"
STREAMS = 64


class Point(msgspec.Struct, frozen=True):
    """One kind of load."""

    name: str
    connections: int
    stream: bool = False


POINTS = (
    Point("1 connection", 1),
    Point("32 connections", 32),
    Point("128 connections", 128),
    Point(f"{STREAMS} streams", STREAMS, stream=True),
)


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """One point in one round: both sides, and what the gateway's processes took for theirs."""

    point: str
    direct: Figures
    gateway: Figures
    elapsed_s: float
    cpu_s: dict[str, float]
    gateway_core_busy_s: float
    memory_mb: dict[str, float]


class Sides(msgspec.Struct, frozen=True, kw_only=True):
    """Where the two sides listen, the customer's key, and how a stream is made."""

    direct_port: int
    gateway_port: int
    key: str
    frames: int
    interval_ms: float


def chat_body(stream: bool) -> str:
    """A small chat request."""
    body: dict[str, object] = {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "What does the toll on the old bridge cost today?"},
        ],
        "max_tokens": 64,
        "temperature": 0.2,
    }
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return msgspec.json.encode(body).decode()


def send(point: Point, port: int, sides: Sides, seconds: float, core: int) -> Figures:
    """One load process, to its end. Raises when it fails or outlives its time."""
    load = Load(
        host="127.0.0.1",
        port=port,
        path=PATH,
        headers={"authorization": f"Bearer {sides.key}"},
        body=chat_body(point.stream),
        connections=point.connections,
        duration_s=seconds,
        ramp_s=sides.frames * sides.interval_ms / 1000 if point.stream else 0.0,
        stream=point.stream,
        frames=sides.frames,
    )
    with inherited_cores({core}):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.load", "--spec"],
            input=msgspec.json.encode(load),
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[1],
            timeout=load.ramp_s + seconds + DRAIN_S + 15,
            check=True,
        )
    return msgspec.json.decode(done.stdout, type=Figures)


def visit(point: Point, sides: Sides, tree: Tree, cores: Cores, seconds: float) -> Visit:
    """Both sides of one point, one after the other."""
    direct = send(point, sides.direct_port, sides, seconds, cores.harness)
    cpu_before, busy_before, started = tree.cpu_s(), core_busy_s(cores.worker), time.monotonic()
    through = send(point, sides.gateway_port, sides, seconds, cores.harness)
    elapsed_s, busy_after, cpu_after = time.monotonic() - started, core_busy_s(cores.worker), tree.cpu_s()
    return Visit(
        point=point.name,
        direct=direct,
        gateway=through,
        elapsed_s=elapsed_s,
        cpu_s=cpu_difference(cpu_before, cpu_after),
        gateway_core_busy_s=busy_after - busy_before,
        memory_mb=tree.memory_mb(),
    )


def cpu_difference(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Seconds taken by role between two samples."""
    return {role: after.get(role, 0.0) - before.get(role, 0.0) for role in sorted(before | after)}
