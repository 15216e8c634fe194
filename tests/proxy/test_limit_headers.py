"""What limits tell customers: times as OpenAI writes them, and no header of a limit that is not set."""

import pytest

from app.proxy.admission.headers import duration, limit_headers
from app.proxy.records import Hold
from app.quota.gate import Allowance


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0ms"),
        (1, "1ms"),
        (999, "999ms"),
        (1_000, "1s"),
        (8_640, "8.64s"),
        (59_999, "59.999s"),
        (60_000, "1m0s"),
        (432_001, "7m12.001s"),
        (86_399_000, "23h59m59s"),
        (3_600_000, "1h0m0s"),
    ],
)
def test_a_time_reads_as_openai_writes_it(ms: int, text: str) -> None:
    assert duration(ms) == text


def test_the_headers_are_those_of_the_tightest_limits() -> None:
    hold = Hold(amount_nano=1, output_bound=1, generation=b"1", tokens=Allowance(900, 0, 60_000))
    assert limit_headers(hold) == [
        (b"x-ratelimit-limit-tokens", b"900"),
        (b"x-ratelimit-remaining-tokens", b"0"),
        (b"x-ratelimit-reset-tokens", b"1m0s"),
    ]
    assert limit_headers(Hold(amount_nano=1, output_bound=1, generation=b"1")) == []
