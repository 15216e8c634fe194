"""Whatever a hostile customer asks of a vendor that reads it as loosely as it likes and keeps its bound, the hold pays
for it: nothing is unpaid, nothing is cut down, and a request that can't be bounded is refused by name.

`HOSTILE_EXAMPLES` says how many requests are tried, `HOSTILE_SEED` which (any whole number).
"""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from app.base.wire import Wire
from app.catalog.pricing import Prices, amount_nano
from app.catalog.records import Channel, ImageTokens, Media, Model
from tests.proxy.greedy_vendor import GreedyVendor, LimitName
from tests.proxy.hostile_requests import requests
from tests.proxy.plans import channel_to
from tests.proxy.whole_requests import MODEL, PRICES, House
from tests.upstreams import Street
from tests.upstreams import Vendor as Server

EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", "300"))
SEED = os.environ.get("HOSTILE_SEED")

PASSED = ("service_tier", "store", "web_search_options", "provider", "plugins", "tools", "prediction")


class Shop(msgspec.Struct, frozen=True):
    """What the operator has set up, and the field in which the vendor reads the bound of an answer."""

    model: Model
    channel: Channel
    limit_name: LimitName


class Place(msgspec.Struct, frozen=True):
    house: House
    vendor: GreedyVendor
    server: Server

    def open(self, shop: Shop) -> None:
        self.house.offer(shop.model, shop.channel)
        self.vendor.limit_name = shop.limit_name
        self.vendor.media = shop.model.media
        self.vendor.most = shop.model.max_output_tokens
        self.vendor.is_counted = shop.channel.provider == "openai"
        self.vendor.readings.clear()


@pytest.fixture
async def place(wire: Wire, street: Street, tmp_path: Path) -> AsyncIterator[Place]:
    vendor = GreedyVendor()
    server = street.open(vendor)
    house = House(wire, channel_to(server, 1), tmp_path)
    yield Place(house, vendor, server)
    await house.relay.close()
    street.shut(server)
    assert not server.faults, server.faults


_READS: dict[str, tuple[LimitName, ...]] = {
    "openai": ("max_completion_tokens",),
    "openai_compatible": ("max_tokens", "max_completion_tokens"),
    "mistral": ("max_tokens",),
    "xai": ("max_completion_tokens",),
}
_PRICES = [
    PRICES,
    Prices(input=1_000_000_000, output=0, request=500_000, fields={"web_search_options": 10_000_000, "tools": 7}),
    msgspec.structs.replace(PRICES, fields=dict.fromkeys(("store", "provider", "plugins"), 1_000_000)),
]
_media = st.sampled_from(
    [
        Media(),
        Media(image=ImageTokens(low=85, high=1_105), audio=2_000, file=9_000, video=20_000),
        Media(image=700, file=5_000),
    ]
)
_models = st.builds(
    lambda most, media, prices: msgspec.structs.replace(MODEL, max_output_tokens=most, media=media, prices=prices),
    st.sampled_from([None, 50, 16_384]),
    _media,
    st.sampled_from(_PRICES),
)
_actions = st.sampled_from([{}, *(dict.fromkeys(PASSED, action) for action in ("pass", "pass", "drop", "refuse"))])
_balance = st.sampled_from([10**15, 10**12, 300_000_000, 20_000_000, 5_000_000, 1_000_000, 300_000])


@st.composite
def shops(draw: st.DrawFn) -> tuple[str, LimitName, Model, Any]:
    provider = draw(st.sampled_from(sorted(_READS)))
    return provider, draw(st.sampled_from(_READS[provider])), draw(_models), draw(_actions)


def _seeded(test: Any) -> Any:
    return test if SEED is None else seed(int(SEED))(test)


@pytest.mark.timeout(120 + EXAMPLES // 5)
@_seeded
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(sent=requests, shop=shops(), balance=_balance)
async def test_the_hold_pays_for_whatever_a_vendor_reads(
    place: Place, sent: bytes, shop: tuple[str, LimitName, Model, Any], balance: int
) -> None:
    """A request that is served costs what the vendor says, and no more than was held. One that is not is refused with
    the field at fault, or for want of credit, before any vendor has seen it."""
    provider, limit_name, model, actions = shop
    channel = msgspec.structs.replace(channel_to(place.server, 1), provider=provider, priced_fields=actions)
    place.open(Shop(model, channel, limit_name))
    served = await place.house.serve(sent, balance)

    receipt = served.receipt
    if receipt is None:
        assert served.error is not None
        assert served.error.status == 429 or (served.error.status == 400 and served.error.param), served.error
        assert not place.vendor.readings
        return
    (reading,) = place.vendor.readings
    assert served.error is None
    assert served.unpaid_nano == 0
    assert not receipt.vendor_excess, (receipt, reading)
    assert receipt.usage == reading.usage
    assert receipt.amount_nano == amount_nano(model.prices or PRICES, reading.usage, extras=reading.extras)
    assert receipt.amount_nano <= place.house.gate.held_nano
