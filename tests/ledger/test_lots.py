"""Lots as pure arithmetic: what is spent first, and how much of each."""

from hypothesis import given
from hypothesis import strategies as st

from app.ledger.lots import Lot, allocate, read_lots, read_parts, show_lots, spend, spending_order

_ids = st.integers(0, 99).map("ent_{:02}".format)
_lots = st.lists(
    st.builds(Lot, _ids, st.integers(1, 10**15), st.none() | st.integers(1, 50), st.booleans()),
    max_size=8,
    unique_by=lambda lot: lot.id,
)
_charges = st.integers(0, 100) | st.integers(0, 2**53)


def test_what_was_given_goes_first_and_then_what_expires_next() -> None:
    """Promotional before paid; within that the next to expire, and what never does last; of equals the older one."""
    lots = [
        Lot("ent_1", 1, None, False),
        Lot("ent_2", 1, 200, False),
        Lot("ent_3", 1, None, True),
        Lot("ent_4", 1, 300, True),
        Lot("ent_6", 1, 100, True),
        Lot("ent_5", 1, 100, True),
    ]
    assert [lot.id for lot in spending_order(lots)] == ["ent_5", "ent_6", "ent_4", "ent_3", "ent_2", "ent_1"]


@given(_lots, _charges)
def test_a_charge_takes_all_it_can_and_no_more(lots: list[Lot], charge: int) -> None:
    """The parts are the charge, or all that there is; none is more than its lot, and what is left is the rest."""
    parts = allocate(lots, charge)
    there = sum(lot.remaining_nano for lot in lots)
    assert sum(parts.values()) == min(charge, there)
    assert all(nano > 0 for nano in parts.values())
    left = spend(lots, parts)
    assert sum(lot.remaining_nano for lot in left) == there - sum(parts.values())
    assert all(lot.remaining_nano > 0 for lot in left)


@given(_lots, _charges)
def test_a_lot_is_touched_only_when_those_before_it_are_gone(lots: list[Lot], charge: int) -> None:
    """Spending in order leaves at most one lot broken, and nothing of those before it."""
    ordered = spending_order(lots)
    parts = allocate(ordered, charge)
    touched = [lot for lot in ordered if lot.id in parts]
    assert touched == ordered[: len(touched)]
    assert all(parts[lot.id] == lot.remaining_nano for lot in touched[:-1])


@given(_lots, st.lists(_charges, max_size=5))
def test_charges_one_by_one_are_one_charge(lots: list[Lot], charges: list[int]) -> None:
    """However a sum is split, the same is left."""
    ordered = spending_order(lots)
    one_by_one = ordered
    for charge in charges:
        one_by_one = spend(one_by_one, allocate(one_by_one, charge))
    assert one_by_one == spend(ordered, allocate(ordered, sum(charges)))


@given(_lots)
def test_lots_are_read_as_they_were_written(lots: list[Lot]) -> None:
    """Into Redis's text and back."""
    assert read_lots(show_lots(lots)) == lots


def test_parts_of_one_lot_are_added_up() -> None:
    assert read_parts("ent_1:5 ent_2:7 ent_1:1") == {"ent_1": 6, "ent_2": 7}
    assert read_parts("") == {}
