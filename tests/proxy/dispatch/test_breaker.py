"""The breaker, in virtual time: opened by rate over a window and never by a blip; one probe; longer each time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.proxy.dispatch.breaker import Breaker

_MIDDLE = 0.5  # the jitter that changes nothing


def _feed(breaker: Breaker, story: str, every_ms: int, now_ms: int = 0) -> int:
    """`.` is a success, `x` a failure, `X` a cut answer; until it opens. The time of the last."""
    for i, letter in enumerate(story):
        if i:
            now_ms += every_ms
        if letter == ".":
            breaker.succeeded(now_ms)
            continue
        if letter == "X":
            breaker.succeeded(now_ms, is_whole=False)
        if breaker.failed(now_ms, _MIDDLE, weight=2 if letter == "X" else 1, retracts=letter == "X"):
            return now_ms
    return now_ms


@pytest.mark.parametrize(
    ("story", "every_ms", "opens"),
    [
        pytest.param("x", 1, False, id="one blip"),
        pytest.param("....x....x....x....x", 1, False, id="one in five"),
        pytest.param("xxxx", 1, False, id="four"),
        pytest.param("xxxxx", 1, True, id="five in a row"),
        pytest.param("xxxx.x", 1, True, id="five of six"),
        pytest.param(".x.x.x.x.x", 1, True, id="half of ten"),
        pytest.param("......x.x.x.x.x", 1, False, id="a third of fifteen"),
        pytest.param(".xx" + "." * 20 + "xx", 1_000, False, id="two blips in half a minute"),
        pytest.param("x.x.x.x.x.", 10_000, False, id="half of them, but hardly ever"),
        pytest.param("xxxxx", 600_000, True, id="five in a row, each ten minutes after the last"),
        pytest.param(".X", 1, False, id="one cut answer"),
        pytest.param(".X.X.X", 1, True, id="three cut answers"),
        pytest.param("." * 60 + "x" * 20, 1, False, id="twenty of eighty, one after the other"),
        pytest.param("." * 300 + "x" * 6, 60, True, id="six in a row that last, though many were well before"),
        pytest.param("." * 300 + "X" * 5, 70, True, id="five cut in a row, though many were well before"),
        pytest.param("." * 300 + "XX.XX.", 60, False, id="two cut in a row, twice"),
        pytest.param("." * 60 + "x" * 40, 1_000, True, id="the good times have left the window"),
    ],
)
def test_what_opens_it(story: str, every_ms: int, opens: bool) -> None:
    """Five failures that are half of all within thirty seconds, or five in a row, however rare, that are no blip."""
    breaker = Breaker()
    _feed(breaker, story, every_ms)
    assert (breaker.state == "open") is opens


def test_it_opens_for_longer_each_time_and_closes_at_a_success() -> None:
    breaker = Breaker()
    now = _feed(breaker, "xxxxx", 10)
    waits = []
    for _ in range(6):
        waits.append(breaker.until_ms - now)
        assert not breaker.is_due(breaker.until_ms - 1)
        now = breaker.until_ms
        assert breaker.is_due(now)
        breaker.begin_probe(now, 30_000)
        assert (breaker.state, breaker.is_due(now)) == ("half_open", False), "one probe at a time"
        now += 100
        breaker.probe_failed(now, _MIDDLE)
    assert waits == [5_000, 10_000, 20_000, 40_000, 60_000, 60_000]
    breaker.begin_probe(breaker.until_ms, 30_000)
    breaker.close(now)
    assert (breaker.state, breaker.counts(now)) == ("closed", (0, 0))


@pytest.mark.parametrize(("calm_ms", "wait_ms"), [(1_000, 10_000), (29_000, 10_000), (30_000, 5_000)])
def test_one_that_flaps_stays_open_for_longer(calm_ms: int, wait_ms: int) -> None:
    """Where it breaks again within the window of its return, it goes on from where it was."""
    breaker = Breaker()
    breaker.begin_probe(_feed(breaker, "xxxxx", 1) + 5_000, 1_000)
    breaker.close(6_000)
    now = _feed(breaker, "xxxxx", 0, 6_000 + calm_ms)
    assert breaker.until_ms - now == wait_ms


def test_a_probe_that_never_reports_frees_itself() -> None:
    breaker = Breaker()
    _feed(breaker, "xxxxx", 1)
    breaker.begin_probe(10_000, 30_000)
    assert not breaker.is_due(39_999)
    assert breaker.is_due(40_000)


def test_an_abandoned_probe_is_followed_by_another_soon() -> None:
    breaker = Breaker()
    _feed(breaker, "xxxxx", 1)
    breaker.begin_probe(10_000, 30_000)
    breaker.probe_lost(10_100, _MIDDLE)
    assert (breaker.state, breaker.until_ms, breaker.probes_lost) == ("open", 11_100, 1)


def test_whoever_hears_of_an_opening_lets_the_other_probe_first() -> None:
    breaker = Breaker()
    breaker.opened_elsewhere(0, 5_000, 0.0)
    assert not breaker.is_due(5_999)
    assert breaker.is_due(6_000)
    breaker.probed_elsewhere(5_000, 600_000)
    assert not breaker.is_due(14_999)
    assert breaker.is_due(15_000), "its worker may have died"


@given(
    story=st.lists(st.tuples(st.sampled_from(".xX"), st.integers(0, 20_000)), max_size=80),
    jitter=st.floats(0, 1),
)
def test_whatever_happens_it_is_due_again_within_two_minutes(story: list[tuple[str, int]], jitter: float) -> None:
    """However it came to be open: nobody is shut out for good. And it never opens before the fifth failure."""
    breaker, now, failures = Breaker(), 0, 0
    for letter, later_ms in story:
        now += later_ms
        if breaker.state == "closed":
            if letter == ".":
                breaker.succeeded(now)
            else:
                failures += 2 if letter == "X" else 1
                opened = breaker.failed(now, jitter, weight=2 if letter == "X" else 1)
                assert not opened or failures >= 5
        elif breaker.is_due(now):
            breaker.begin_probe(now, 30_000)
            if letter == ".":
                breaker.close(now)
                failures = 0
            elif letter == "x":
                breaker.probe_failed(now, jitter)
        assert breaker.state == "closed" or breaker.until_ms - now <= 72_000
