"""Accounts, credits, requests, bookkeepers and losses in any order, against the model: no difference, to the nano."""

import logging
from pathlib import Path

import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests.ledger.machine import BooksMachine
from tests.ledger.search import TIMEOUT_S, search
from tests.servers import RedisServer


@pytest.mark.timeout(TIMEOUT_S)
def test_the_books_are_as_plain_arithmetic_has_them(
    tmp_path: Path, migrated_sqlite: Path, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """After every step Redis is as the model says; at the end of the day so is the journal, and both are one."""
    caplog.set_level(logging.CRITICAL, "tollgate")

    def machine() -> BooksMachine:
        return BooksMachine(tmp_path, migrated_sqlite, redis_server.url)

    run_state_machine_as_test(machine, settings=search(examples=30))
