"""Settlements that are kept until the database has them: the same ones, in the same order, as a plain list would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.proxy.settlement import Unposted
from app.proxy.settlement.spool import Settlement

SHARDS = 2
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("keep"), st.integers(0, SHARDS - 1), st.sampled_from([1, 700, 40_000])),
        st.tuples(st.just("posted"), st.integers(0, SHARDS - 1), st.integers(0, 60)),
        st.tuples(st.just("take"), st.integers(0, SHARDS - 1), st.just(0)),
    ),
    max_size=60,
)


def settlement(request_id: str, size: int = 1) -> Settlement:
    return Settlement("acc", "key", request_id, 2**62, 10, b"\xff" * size, b"generation", "=t:1000")


@given(STEPS)
def test_they_are_kept_as_in_a_list(steps: list[tuple[str, int, int]]) -> None:
    unposted = Unposted()
    expected: dict[int, list[tuple[tuple[int, int], Settlement]]] = {number: [] for number in range(SHARDS)}
    for at, (what, number, figure) in enumerate(steps):
        if what == "keep":
            kept = settlement(f"req_{at}", figure)
            unposted.keep(number, b"%d-%d" % (at // 3, at % 3), kept)
            expected[number].append(((at // 3, at % 3), kept))
        elif what == "posted":
            up_to = (figure // 3, figure % 3)
            unposted.posted(number, up_to)
            expected[number] = [each for each in expected[number] if each[0] > up_to]
        else:
            assert unposted.take(number) == [each for _, each in expected[number]]
            expected[number] = []
        assert len(unposted) == sum(map(len, expected.values()))
        assert sorted(unposted.shards) == [number for number, kept in expected.items() if kept]
    for number in range(SHARDS):
        assert unposted.take(number) == [each for _, each in expected[number]]


def test_where_they_are_too_many_the_latest_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    unposted = Unposted(most=3)
    for at in range(5):
        unposted.keep(0, b"%d-0" % at, settlement(f"req_{at}"))
    assert [each.request_id for each in unposted.take(0)] == ["req_2", "req_3", "req_4"]
    assert caplog.text.count("older ones are not kept") == 1
