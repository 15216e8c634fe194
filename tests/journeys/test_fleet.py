"""A small run of the fault bench: what it counts must be right on any machine; how fast it was is not looked at."""

from pathlib import Path

import pytest

from benchmarks.faults.plan import draw, well_least
from benchmarks.faults.play import Lengths, play
from benchmarks.faults.stage import Setting, Timeouts, stage

# A request has time to find the one channel that is well, on a slow machine too.
_PATIENT = Timeouts(connect_ms=1_000, first_token_ms=3_000, idle_ms=5_000, total_ms=20_000)
_DEPENDS_ON_SPEED = "channels that served again later than their half-open time"


@pytest.fixture(scope="module", autouse=True)
def books() -> None:
    """This module has a gateway of its own, and looks at its books itself."""


async def test_ten_failing_vendors_go_unnoticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody fails but by a cut, nothing is spliced, no channel is asked twice, and every receipt is right."""
    monkeypatch.delenv("SSL_CERT_DIR")  # the gateway wants some certificates, and one of the vendors speaks TLS
    setting = Setting(seed=4, workers=2, timeouts=_PATIENT)
    async with stage(setting, tmp_path) as on:
        result = await play(on, 40.0, Lengths(0.5, 7.0, 0.5), lambda _: None)
    assert len(result.sent) > 400
    assert {visit.fault for visit in result.visits} - {""}
    counts = {each.what: each for each in result.findings if each.what != _DEPENDS_ON_SPEED}
    failed = next(iter(counts))
    assert [each for what, each in counts.items() if what != failed and each.is_wrong] == []


@pytest.mark.parametrize("has_names", [True, False])
def test_one_channel_is_always_well(has_names: bool) -> None:
    for seed in range(50):
        assert well_least(draw(seed, 150.0, has_names=has_names)) >= 1
