"""A stream's use against its hold, at a real till."""

import msgspec

from app.base.limits import NO_LIMITS
from app.catalog.pricing import Prices, Sale
from app.proxy.records import Caller, Hold
from app.proxy.relay.stream import Event
from app.proxy.settlement import Meter, Trip
from tests.proxy.makers import order
from tests.quota.till import Till

NANO_A_TOKEN = 10
SALE = Sale("prc_1", Prices(input=0, output=NANO_A_TOKEN * 1_000_000))


async def open_meter(till: Till, balance: int, held_tokens: int, **fields: object) -> Meter:
    """Of an answer without a limit of the customer's, so that the vendor was told what is held, unless `fields` has
    another."""
    await till.warm(balance)
    imposed = fields.pop("imposed_limit", None if fields else held_tokens)
    asked = msgspec.structs.replace(order(**fields), imposed_limit=imposed)
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


async def test_an_answer_with_a_limit_is_watched_for_a_vendor_that_ignores_it(till: Till) -> None:
    """The customer pays for no more than the limit, so the hold never grows: neither the text nor the vendor's own
    figure matters, up to twice the limit and 64 tokens."""
    meter = await open_meter(till, 10_000_000, 100, max_tokens=100)
    assert meter.covers(3 * 264 + 2, 900_000_000)
    assert not meter.covers(3 * 264 + 3, None)
    said = "extraordinarily " * 100
    assert await meter.extend(len(said), None, lambda: said)
    assert (meter.held_tokens, meter.beyond_limit) == (100, False)
    said += "one two three " * 100
    assert not await meter.extend(len(said), None, lambda: said)
    assert (meter.held_tokens, meter.beyond_limit) == (100, True)
    assert (await till.wallet()).held_nano == 1_000


async def test_the_most_that_a_model_can_give_is_a_limit_too(till: Till) -> None:
    """It is held as a whole, so the hold does not grow."""
    meter = await open_meter(till, 10_000_000, 100, imposed_limit=None)
    assert meter.covers(3 * 264 + 2, 900_000_000)
    said = "one two three " * 100
    assert not await meter.extend(len(said), None, lambda: said)
    assert (meter.held_tokens, meter.beyond_limit) == (100, True)


async def test_a_vendor_that_ignores_an_imposed_limit_is_ended_too(till: Till) -> None:
    """The hold of an answer whose limit the customer did not ask for grows, but not past what any vendor may do."""
    meter = await open_meter(till, 10_000_000, 100, imposed_limit=100)
    said = "one two three " * 50
    assert not meter.covers(len(said), None)
    assert await meter.extend(len(said), None, lambda: said)
    assert meter.held_tokens > 100
    said = "one two three " * 500
    assert not await meter.extend(len(said), None, lambda: said)
    assert meter.beyond_limit


async def test_an_absurd_count_does_not_grow_the_hold(till: Till) -> None:
    """No model says so much: the text is what counts, and the settlement sees to the rest."""
    meter = await open_meter(till, 10**12, 100)
    assert meter.covers(30, 900_000_000)
    assert await meter.extend(303, 900_000_000, lambda: "x" * 303)
    assert meter.held_tokens < 2_000


async def test_the_trip_knows_what_the_hold_has_grown_to(till: Till) -> None:
    meter = await open_meter(till, 10_000_000, 100)
    assert meter.trip.hold.output_bound == 100
    assert await meter.extend(303, None, lambda: "x" * 303)
    assert meter.trip.hold.output_bound == meter.held_tokens > 1_000


async def test_what_nobody_watched_is_held_at_the_end(till: Till) -> None:
    """A customer who has gone is charged for the rest; text of which a token is a byte takes more than was guessed."""
    meter = await open_meter(till, 10_000_000, 100)
    await meter.hold_rest(150, 140, lambda: "")
    assert meter.held_tokens == 140
    digits = "1\n" * 140
    await meter.hold_rest(len(digits), None, lambda: digits)
    assert meter.held_tokens == 280
    await meter.hold_rest(3, 900_000_000, lambda: "abc")
    assert meter.held_tokens == 280


def events(*words: str, counted: int | None = None) -> list[Event]:
    lengths = [len("".join(words[: place + 1])) for place in range(len(words))]
    return [Event(b"", letters, counted) for letters in lengths]


async def test_of_a_segment_so_much_is_sent_as_the_hold_pays_for(till: Till) -> None:
    """Counted exactly, event by event."""
    words = ("one", " two", " three", " four", " five")
    meter = await open_meter(till, 1_000, 3)
    assert await meter.reach(events(*words), "".join(words)) == 3
    assert await meter.reach(events(*words[:2]), "".join(words[:2])) == 2
    assert await meter.reach(events("one two three four"), "one two three four") == 0
    assert await meter.reach(events(*words, counted=4), "".join(words)) == 0, "the vendor counts more"


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
