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

from app.base.priced_fields import Action
from app.base.wire import Wire
from app.catalog.pricing import Prices, amount_nano
from app.catalog.records import ImageTokens, Media, Model, Shaping
from tests.proxy.greedy_vendor import GreedyVendor, LimitName
from tests.proxy.hostile_answers import answers
from tests.proxy.hostile_requests import requests
from tests.proxy.plans import channel_to
from tests.proxy.whole_requests import MODEL, PRICES, House, Said, Served
from tests.upstreams import Street
from tests.upstreams import Vendor as Server

EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", "300"))
SEED = os.environ.get("HOSTILE_SEED")

PASSED = ("service_tier", "store", "web_search_options", "provider", "plugins", "tools", "prediction")


class Shop(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator has set up, and the field in which the vendor reads the bound of an answer."""

    provider: str = "openai_compatible"
    limit_name: LimitName = "max_tokens"
    model: Model = MODEL
    actions: dict[str, Action] = {}
    shaping: Shaping = Shaping()


class Place(msgspec.Struct, frozen=True):
    house: House
    vendor: GreedyVendor
    server: Server

    async def serve(self, shop: Shop, sent: bytes, balance_nano: int, said: Said | None = None) -> Served:
        channel = msgspec.structs.replace(
            channel_to(self.server, 1), provider=shop.provider, priced_fields=shop.actions, shaping=shop.shaping
        )
        self.house.offer(shop.model, channel)
        self.vendor.limit_name = shop.limit_name
        self.vendor.media = shop.model.media
        self.vendor.most = shop.model.max_output_tokens
        self.vendor.is_counted = shop.provider == "openai"
        self.vendor.said = said
        self.vendor.readings.clear()
        return await self.house.serve(sent, balance_nano)

    def check_refused(self, served: Served) -> None:
        """With the field at fault, or for want of credit; no vendor has seen it."""
        assert served.error is not None
        assert served.error.status == 429 or (served.error.status == 400 and served.error.param), served.error
        assert not self.vendor.readings

    def check_paid(self, served: Served, shop: Shop) -> None:
        """What the vendor read is what is charged, and no more than was held."""
        receipt = served.receipt
        assert receipt is not None
        (reading,) = self.vendor.readings
        assert served.error is None
        assert served.unpaid_nano == 0
        assert not receipt.vendor_excess, (receipt, reading)
        assert receipt.usage == reading.usage
        assert receipt.amount_nano == amount_nano(shop.model.prices or PRICES, reading.usage, extras=reading.extras)
        assert receipt.amount_nano <= self.house.gate.held_nano


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
def _shops(draw: st.DrawFn) -> Shop:
    provider = draw(st.sampled_from(sorted(_READS)))
    return Shop(
        provider=provider,
        limit_name=draw(st.sampled_from(_READS[provider])),
        model=draw(_models),
        actions=draw(_actions),
    )


def _many(test: Any) -> Any:
    many = settings(
        max_examples=EXAMPLES,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    return pytest.mark.timeout(120 + EXAMPLES // 5)(many(test if SEED is None else seed(int(SEED))(test)))


@_many
@given(sent=requests, shop=_shops(), balance=_balance)
async def test_the_hold_pays_for_whatever_a_vendor_reads(place: Place, sent: bytes, shop: Shop, balance: int) -> None:
    """A request that is served costs what the vendor says, and no more than was held. One that is not is refused with
    the field at fault, or for want of credit, before any vendor has seen it."""
    served = await place.serve(shop, sent, balance)
    if served.receipt is None:
        place.check_refused(served)
    else:
        place.check_paid(served, shop)


@_many
@given(sent=requests, shop=_shops(), balance=_balance, said=answers)
async def test_nothing_is_unpaid_whatever_is_asked_and_answered(
    place: Place, sent: bytes, shop: Shop, balance: int, said: Said
) -> None:
    """A vendor that goes beyond what it read is on the receipt, and the charge ends at what was held."""
    served = await place.serve(shop, sent, balance, said)
    receipt = served.receipt
    if receipt is None:
        place.check_refused(served)
        return
    assert served.unpaid_nano == 0
    assert 0 <= receipt.amount_nano <= place.house.gate.held_nano
    if receipt.channel_id is None:
        return
    taken = receipt.attempts[-1].usage or receipt.usage
    assert receipt.vendor_excess or receipt.usage.input_tokens == taken.input_tokens
    assert receipt.vendor_excess or receipt.usage.output_tokens <= taken.output_tokens
