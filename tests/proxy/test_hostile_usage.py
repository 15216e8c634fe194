"""Whatever a hostile or sloppy vendor answers, nobody pays for more than was held: whole requests over a real relay, a
real wallet and a real settlement.

`HOSTILE_EXAMPLES` says how many answers are tried, `HOSTILE_SEED` which (any whole number).
"""

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from app.base.wire import Wire
from tests.proxy.hostile_answers import answers
from tests.proxy.makers import body
from tests.proxy.plans import channel_to
from tests.proxy.whole_requests import House, Json, Said, Vendor
from tests.upstreams import Street

EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", "300"))
SEED = os.environ.get("HOSTILE_SEED")

_END = re.compile(rb'"finish_reason": ?"')


@pytest.fixture
async def house(wire: Wire, street: Street, tmp_path: Path) -> AsyncIterator[tuple[House, Vendor]]:
    says = Vendor()
    vendor = street.open(says)
    house = House(wire, channel_to(vendor, 1), tmp_path)
    yield house, says
    await house.relay.close()
    street.shut(vendor)
    assert not vendor.faults, vendor.faults


_asked = st.fixed_dictionaries(
    {"stream": st.booleans(), "n": st.sampled_from([1, 1, 2])},
    optional={
        "max_tokens": st.sampled_from([1, 10, 100]),
        "stream_options": st.just({"include_usage": True}),
    },
)
_balance = st.sampled_from([10**12, 5_000_000, 3_000_000])  # thousands of USD, or a few hundred tokens


def _seeded(test: Any) -> Any:
    return test if SEED is None else seed(int(SEED))(test)


@pytest.mark.timeout(120 + EXAMPLES // 5)
@_seeded
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(said=answers, asked=_asked, balance=_balance)
async def test_nobody_pays_for_more_than_was_held(
    house: tuple[House, Vendor], said: Said, asked: Json, balance: int
) -> None:
    """Nothing is left unpaid, no charge passes the hold or the limit; a vendor that passed them is on the receipt. A
    stream ends as clients know it."""
    serving, vendor = house
    vendor.said = said
    sent = body(**asked)
    served = await serving.serve(sent, balance)
    receipt, got = served.receipt, served.got

    assert served.unpaid_nano == 0
    assert receipt is not None
    assert 0 <= receipt.amount_nano <= serving.gate.held_nano
    taken = receipt.attempts[-1].usage or receipt.usage if receipt.attempts else receipt.usage
    assert receipt.usage.input_tokens <= len(sent)
    if "max_tokens" in asked and receipt.channel_id is not None:
        limit = asked["max_tokens"] * asked["n"]
        assert receipt.usage.output_tokens <= limit
        assert receipt.vendor_excess or taken.output_tokens <= limit
    assert receipt.channel_id is None or receipt.vendor_excess or taken.input_tokens <= len(sent)
    if asked["stream"] and receipt.channel_id is not None:
        assert (b"[DONE]" in got) != (b'{"error"' in got)
        ends = len(_END.findall(got))
        assert b'{"error"' in got or ends >= asked["n"] or receipt.ending == "finished"
