"""Margins, as figures: what is lost is below zero, and a share of nothing is none."""

import pytest

from app.ledger.margins import Earned, grouped, show_earned


@pytest.mark.parametrize(
    ("charged", "cost", "percent"),
    [
        (0, 0, None),
        (0, 5, None),
        (100, 0, "100.00"),
        (100, 100, "0.00"),
        (100, 250, "-150.00"),
        (3, 2, "33.33"),
        (3, 1, "66.67"),
        (100_000, 99_995, "0.01"),  # half a hundredth is rounded away from zero, on both sides
        (100_000, 100_005, "-0.01"),
        (100_000, 100_004, "0.00"),
    ],
)
def test_the_share_of_what_was_charged(charged: int, cost: int, percent: str | None) -> None:
    shown = show_earned(Earned(charged_nano=charged, upstream_cost_nano=cost))
    assert shown["margin_percent"] == percent


def test_groups_add_up_their_members() -> None:
    """A name without a group is in the one without a name."""
    figures = {"a": Earned(requests=1, charged_nano=5), "b": Earned(requests=2), "c": Earned(requests=4)}
    found = grouped(figures, {"a": "x", "b": "x"})
    assert found == {"x": Earned(requests=3, charged_nano=5), "": Earned(requests=4)}
