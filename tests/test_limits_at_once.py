"""Many clients at once, over four workers: each kind of limit admits what its definition says."""

import asyncio
from collections.abc import Iterator

import pytest
from rich.console import Console

from benchmarks.limits import Kind, drive, kinds, table_of
from tests.gateway import Gateway
from tests.servers import Fleet

CLIENTS = 60
SCALE = 40  # fewer than there are clients: their first requests alone are too many


@pytest.fixture(scope="module")
def four_workers(fleet: Fleet) -> Iterator[Gateway]:
    gateway = fleet.new("sqlite", TOLLGATE_WORKERS="4")
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.mark.parametrize("kind", kinds(SCALE), ids=lambda kind: kind.name)
def test_a_crowd_gets_what_the_limit_says(four_workers: Gateway, kind: Kind) -> None:
    """Counts and places to the request; tokens never more than one estimate over. Nobody is told anything but yes or
    429, and the figures are printed."""
    outcome = asyncio.run(drive(kind, four_workers, CLIENTS, 1.0))

    Console(width=130).print(table_of([outcome], f"{CLIENTS} clients"))
    assert not outcome.others
    assert outcome.is_right, (outcome.counted, outcome.ideal)
    if kind.unit == "requests":
        assert outcome.counted >= SCALE
