"""The worst case of a request: by what the customer, the model and the wallet bound."""

from typing import Any

import msgspec
import pytest

from app.base.errors import InvalidField
from app.base.receipt import Extras
from app.catalog.pricing import Prices, Sale
from app.catalog.records import ImageTokens, Media
from app.proxy.admission.estimate import (
    Room,
    affordable_output,
    bounded,
    check_media,
    counted_bound,
    held_output,
    output_bound,
    takes_media,
)
from app.proxy.records import Offer, Order
from tests.proxy.makers import make_channel, order
from tests.proxy.test_chain import model

SALE = Sale("prc_1", Prices(input=1_000_000, output=2_000_000))  # 1 and 2 nano a token


def offered(*channels: Any, **fields: Any) -> Offer:
    return Offer(model("small", **fields), SALE, channels)


@pytest.mark.parametrize(
    ("fields", "most", "held", "sent", "limits"),
    [
        pytest.param({}, 16_384, 16_384, None, 4096, id="what the model can give"),
        pytest.param({}, None, 4096, 4096, 4096, id="a model that says nothing is told 4096"),
        pytest.param({}, 500, 500, None, 500, id="less than 4096"),
        pytest.param({"n": 3}, 16_384, 3 * 16_384, None, 3 * 4096, id="times n"),
        pytest.param({"n": 3}, None, 3 * 4096, 4096, 3 * 4096, id="times n, told"),
        pytest.param({"max_tokens": 10_000}, 16_384, 10_000, 10_000, 10_000, id="the customer's"),
        pytest.param({"max_tokens": 10_000}, None, 10_000, 10_000, 10_000, id="the customer's, whatever it is"),
        pytest.param({"max_tokens": 10_000}, 500, 500, 500, 500, id="no more than the model gives, nor is more sent"),
    ],
)
def test_what_is_held_for_an_answer(
    fields: dict[str, int], most: int | None, held: int, sent: int | None, limits: int
) -> None:
    """Money covers the longest answer that the vendor may give; limits of tokens hold 4096 of it at most, unless the
    customer asked for more by name."""
    offer = offered(max_output_tokens=most)
    asked = bounded(order(**fields), offer)
    assert output_bound(asked, offer.model) == held
    assert asked.answer_limit == sent
    assert held_output(asked, held) == limits


def test_a_limit_that_was_imposed_goes_along() -> None:
    """A model in the place of another is told no more, and gives no more than it can."""
    asked = bounded(order(), offered())
    assert bounded(asked, offered(max_output_tokens=16_384)).answer_limit == 4096
    assert bounded(asked, offered(max_output_tokens=100)).answer_limit == 100


IMAGE = {"type": "image_url", "image_url": {"url": "https://e.com/a"}}
LOW = {"type": "image_url", "image_url": {"url": "https://e.com/a", "detail": "low"}}
ODD = {"type": "image_url", "image_url": {"url": "https://e.com/a", "detail": "original"}}
INLINE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "A" * 10_000, "format": "wav"}}
SPOKEN = {"type": "input_audio", "input_audio": {"id": "audio_1"}}
FILE = {"type": "file", "file": {"file_data": "A" * 10_000}}
VIDEO = {"type": "video_url", "video_url": {"url": "https://e.com/a.mp4"}}


def with_parts(*parts: object) -> Order:
    return order(messages=[{"role": "user", "content": [{"type": "text", "text": "See"}, *parts]}])


@pytest.mark.parametrize(
    ("parts", "media", "tokens"),
    [
        ([IMAGE], Media(), 48_169),
        ([LOW], Media(), 48_169),
        ([ODD], Media(), 48_169),
        ([INLINE, LOW], Media(), 2 * 48_169),
        ([IMAGE, LOW], Media(image=500), 1000),
        ([IMAGE, LOW, ODD], Media(image=ImageTokens(85, 1445)), 85 + 2 * 1445),
        ([IMAGE], Media(image=ImageTokens(9, 5)), 9),
        ([AUDIO], Media(), 10_000),
        ([AUDIO], Media(audio=700), 700),
        ([SPOKEN], Media(audio=700), 700),
        ([FILE, VIDEO], Media(file=5_000, video=90_000), 95_000),
        ([IMAGE], Media(image=0), 0),
    ],
)
def test_media_cost_what_the_model_declares(parts: list[object], media: Media, tokens: int) -> None:
    """Data with such a bound are no bytes of the prompt besides; without one an image costs what the dearest model
    takes, whatever its detail, and audio its bytes."""
    asked = with_parts(*parts)
    offer = offered(media=media)
    check_media(asked, offer.model)
    fitted = bounded(asked, offer)
    assert fitted.media_tokens == tokens
    assert 0 < fitted.input_bound - tokens < 700


@pytest.mark.parametrize("part", [SPOKEN, FILE, VIDEO])
def test_a_part_without_a_bound_is_refused_by_its_path(part: object) -> None:
    asked = with_parts(IMAGE, part)
    assert not takes_media(asked, model("small"))
    with pytest.raises(InvalidField, match="declares no bound") as refusal:
        check_media(asked, model("small"))
    assert refusal.value.param == "messages[0].content[2]"


def test_a_count_is_a_bound_only_where_all_vendors_count_so() -> None:
    """Media keep their own bound, and what is not text its bytes; elsewhere the bytes stand."""
    asked = with_parts(INLINE)
    counted = msgspec.structs.replace(asked, counted_tokens=counted_bound(asked, 1))
    assert counted.counted_tokens is not None
    assert counted.counted_tokens >= 1 + asked.uncounted_bytes
    here = bounded(counted, offered(), is_counted=True)
    assert here.input_bound == counted.counted_tokens + 48_169
    moved = bounded(here, offered(media=Media(image=7)), is_counted=False)
    assert moved.input_bound == asked.text_bytes + 7


def test_what_a_channel_passes_on_is_held_for() -> None:
    asked = order(service_tier="priority", store=True)
    assert bounded(asked, offered(make_channel())).held_extras == Extras()
    passing = make_channel("chn_2", priced_fields={"service_tier": "pass"})
    assert bounded(asked, offered(make_channel(), passing)).held_extras == Extras(service_tier="priority")


def test_an_order_that_nothing_bounds_further_stays_what_it_is() -> None:
    """Most requests: nothing is copied for them."""
    asked = order(max_tokens=5)
    assert bounded(asked, offered(max_output_tokens=500)) is asked


@pytest.mark.parametrize(
    ("room", "fits", "affordable"),
    [
        (Room(tokens=100 + 4096), True, 16_384),
        (Room(tokens=100 + 4095), False, 4095),
        (Room(nano=100 + 2 * 16_384), True, 16_384),
        (Room(nano=100 + 2 * 16_384 - 1), False, 16_383),
        (Room(nano=101), False, 0),
    ],
)
def test_what_there_is_room_for(room: Room, fits: bool, affordable: int) -> None:
    """A budget of tokens has room for 4096 of an answer without a limit; money for all of it."""
    asked = msgspec.structs.replace(order(), input_bound=100)
    assert room.fits(asked, SALE, 16_384) is fits
    assert affordable_output(asked, SALE, 16_384, room) == affordable


def test_what_vendors_write_before_tools_is_held_for() -> None:
    """Up to 530 tokens, which a tool of a few bytes does not outweigh; also where the prompt is counted."""
    tool = {"type": "function", "function": {"name": "f"}}
    asked = order(tools=[tool])
    assert asked.input_bound >= order().input_bound + 530
    assert asked.uncounted_bytes >= 530
