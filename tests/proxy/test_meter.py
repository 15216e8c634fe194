"""A stream's use against its hold, at a real till."""

from app.base.limits import NO_LIMITS
from app.catalog.pricing import Prices, Sale
from app.proxy.records import Caller, Hold
from app.proxy.settlement import Meter, Trip
from tests.proxy.makers import order
from tests.quota.till import Till

NANO_A_TOKEN = 10
SALE = Sale("prc_1", Prices(input=0, output=NANO_A_TOKEN * 1_000_000))


async def open_meter(till: Till, balance: int, held_tokens: int, **fields: object) -> Meter:
    await till.warm(balance)
    asked = order(**fields)
    await till.admit(asked.request_id, nano=held_tokens * NANO_A_TOKEN)
    caller = Caller(
        account_id=till.account_id,
        key_id="key_1",
        book="default",
        slots=till.slots,
        limits=NO_LIMITS,
        models=None,
        networks=None,
        expires_at_ms=None,
    )
    hold = Hold(
        amount_nano=held_tokens * NANO_A_TOKEN,
        output_bound=held_tokens,
        generation=b"",
    )
    return Meter(till.gate, Trip(caller, asked, SALE, hold, 0))


async def test_nothing_is_asked_while_the_hold_pays(till: Till) -> None:
    """Three bytes a token: a hold of 100 tokens covers 302 bytes."""
    meter = await open_meter(till, 10_000, 100)
    assert meter.covers(302, None)
    assert not meter.covers(303, None)


async def test_a_vendor_that_knows_the_limit_is_watched_with_less_suspicion(till: Till) -> None:
    meter = await open_meter(till, 10_000, 100, max_tokens=100)
    assert meter.covers(605, None)
    assert not meter.covers(606, None)


async def test_the_larger_of_the_vendors_count_and_the_texts_is_watched(till: Till) -> None:
    """A vendor that says 0 or 1 in every chunk does not blind the watch; few bytes may be many tokens."""
    meter = await open_meter(till, 10_000, 100)
    assert meter.covers(302, 100)
    assert not meter.covers(303, 1)
    assert not meter.covers(3, 101)


async def test_a_poor_wallet_has_the_text_counted_whatever_the_vendor_says(till: Till) -> None:
    """The exact count, not the vendor's zero, nor the bytes, says what the hold pays for."""
    meter = await open_meter(till, 1_000, 100)
    said = "extraordinarily " * 60
    assert not meter.covers(len(said), 0)
    assert await meter.extend(len(said), 0, lambda: said)
    assert meter.covers(len(said), 0)
    much = said * 3
    assert not await meter.extend(len(much), 0, lambda: much)


async def test_a_rich_wallet_extends_in_steps(till: Till) -> None:
    """One call a step, and nothing is counted."""
    meter = await open_meter(till, 10_000_000, 100)

    def text() -> str:
        raise AssertionError("no need to count")

    assert await meter.extend(303, None, text)
    assert meter.covers(3000, None)
    assert (await till.wallet()).held_nano == meter.held_tokens * NANO_A_TOKEN


async def test_a_poor_wallet_has_the_text_counted(till: Till) -> None:
    """Sixty words are sixty tokens or so, however many bytes: the hold of 100 pays for them."""
    meter = await open_meter(till, 1_000, 100)
    said = "extraordinarily " * 60
    assert not meter.covers(len(said), None)
    assert await meter.extend(len(said), None, lambda: said)
    assert meter.covers(len(said), None)
    assert (await till.wallet()).held_nano == 1_000


async def test_what_is_left_is_held_before_it_is_refused(till: Till) -> None:
    """A wallet that can't pay for a step may still pay for what has come."""
    meter = await open_meter(till, 2_000, 100)
    said = "one two three four five " * 24  # 120 tokens or so
    assert await meter.extend(len(said), None, lambda: said)
    wallet = await till.wallet()
    assert 1_000 < wallet.held_nano <= wallet.balance_nano


async def test_a_wallet_that_cannot_pay_ends_the_stream(till: Till) -> None:
    """And nothing more is held than there is."""
    meter = await open_meter(till, 1_000, 100)
    said = "one two three four five " * 40
    assert not await meter.extend(len(said), None, lambda: said)
    assert not await meter.extend(3, 101, lambda: said)
    assert (await till.wallet()).held_nano == 1_000
