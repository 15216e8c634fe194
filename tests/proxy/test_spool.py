"""Settlements on the disk: whole, or not there; found again by whoever comes next."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.proxy.settlement.spool import Settlement, Spool


def settlement(request_id: str = "req_1", **fields: object) -> Settlement:
    values: dict[str, object] = {
        "account_id": "acc_1",
        "key_id": "key_1",
        "request_id": request_id,
        "charge_nano": 41,
        "tokens": 13,
        "receipt": b'{"request_id":"req_1"}',
        "generation": b"17",
    }
    return Settlement(**values | fields)  # type: ignore[arg-type]


async def test_what_is_kept_is_found_by_the_next_process(tmp_path: Path) -> None:
    """Oldest first, as request ids sort; dropped ones are gone, and dropping twice is no fault."""
    spool = Spool(tmp_path / "spool")
    second, first = settlement("req_2"), settlement("req_1")
    await spool.keep(second)
    await spool.keep(first)
    assert await Spool(tmp_path / "spool").waiting() == [first, second]
    await spool.drop("req_1")
    await spool.drop("req_1")
    assert await spool.waiting() == [second]


async def test_keeping_twice_keeps_one(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    await spool.keep(settlement())
    await spool.keep(settlement())
    assert len(await spool.waiting()) == 1


async def test_a_write_that_was_cut_off_is_not_read(tmp_path: Path) -> None:
    """A draft without its final name belongs to a process that died: the hold is the sweeper's then."""
    spool = Spool(tmp_path)
    (tmp_path / "req_1.4711").write_bytes(b"half")
    assert await spool.waiting() == []


async def test_an_unreadable_file_is_set_aside_and_stops_nobody(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    (tmp_path / "req_0.settlement").write_bytes(b"garbage")
    await spool.keep(settlement())
    assert await spool.waiting() == [settlement()]
    assert (tmp_path / "req_0.unreadable").exists()


async def test_only_one_process_replays(tmp_path: Path) -> None:
    """Workers share the folder."""
    one, other = Spool(tmp_path), Spool(tmp_path)
    with one.claim() as mine:
        assert mine
        with other.claim() as theirs:
            assert not theirs
    with other.claim() as mine:
        assert mine


@given(charge=st.integers(0, 2**53), receipt=st.binary(max_size=200))
def test_every_settlement_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, charge: int, receipt: bytes
) -> None:
    import asyncio

    spool = Spool(tmp_path_factory.mktemp("spool"))
    kept = settlement(charge_nano=charge, receipt=receipt)
    asyncio.run(spool.keep(kept))
    assert asyncio.run(spool.waiting()) == [kept]
