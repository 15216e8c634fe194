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
from app.base.receipt import Usage
from app.base.wire import Wire
from app.catalog.pricing import Prices, amount_nano
from app.catalog.records import FieldRules, ImageTokens, Media, Model, Shaping
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
    """What the operator has set up, the field in which the vendor reads the bound of an answer, and whether it takes
    the first of several keys."""

    provider: str = "openai_compatible"
    limit_name: LimitName = "max_tokens"
    takes_first: bool = False
    upstream_model: str = "gpt-4o-mini"
    model: Model = MODEL
    actions: dict[str, Action] = {}
    shaping: Shaping = Shaping()


class Place(msgspec.Struct, frozen=True):
    house: House
    vendor: GreedyVendor
    server: Server

    async def serve(self, shop: Shop, sent: bytes, balance_nano: int, said: Said | None = None) -> Served:
        channel = msgspec.structs.replace(
            channel_to(self.server, 1),
            provider=shop.provider,
            models={shop.model.name: shop.upstream_model},
            priced_fields=shop.actions,
            shaping=shop.shaping,
        )
        self.house.offer(shop.model, channel)
        self.vendor.limit_name = shop.limit_name
        self.vendor.takes_first = shop.takes_first
        self.vendor.media = shop.model.media
        self.vendor.most = shop.model.max_output_tokens
        self.vendor.is_counted = shop.provider == "openai"
        self.vendor.said = said
        self.vendor.readings.clear()
        self.server.requests.clear()
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
        takes_first=draw(st.booleans()),
        upstream_model=draw(st.sampled_from(["gpt-4o-mini", "ft:gpt-4o-mini:org::id", "gpt-4-turbo", "gpt-4"])),
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


def _asking(messages: str = '[{"role":"user","content":"Hi"}]', more: str = "") -> bytes:
    return f'{{"model":"small","messages":{messages}{more}}}'.encode()


_PICTURE = '"image_url":{"url":"https://e.com/a","detail":"low"'
_DATA = "x" * 60_000


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        pytest.param(_asking(more=',"max_tokens":1,"best_of":20'), "best_of", id="vLLM makes 20 answers"),
        pytest.param(_asking(more=',"max_tokens":1,"use_beam_search":true'), "use_beam_search", id="several beams"),
        pytest.param(_asking(more=',"max_tokens":1,"n_predict":90000'), "n_predict", id="llama.cpp's own bound"),
        pytest.param(_asking(more=',"max_tokens":1,"max_new_tokens":90000'), "max_new_tokens", id="another bound"),
        pytest.param(_asking(more=',"max_tokens":1,"extra_body":{"n":20}'), "extra_body", id="LiteLLM opens it"),
        pytest.param(_asking(more=',"previous_response_id":"r"'), "previous_response_id", id="a prompt elsewhere"),
        pytest.param(_asking(more=',"max_tokens":1,"n_cmpl":20'), "n_cmpl", id="llama.cpp makes 20 answers"),
        pytest.param(_asking(more=',"max_tokens":1,"maxTokens":9000'), "maxTokens", id="protobuf's JSON"),
        pytest.param(_asking(more=',"candidateCount":20'), "candidateCount", id="answers in camel case"),
        pytest.param(_asking(more=',"mock_testing_fallbacks":true'), "mock_testing_fallbacks", id="LiteLLM's fallback"),
        pytest.param(_asking(more=',"providerOptions":{"gateway":{}}'), "providerOptions", id="other models of Vercel"),
        pytest.param(_asking(more=',"options":{"num_predict":9000}'), "options", id="Ollama's own bound"),
        pytest.param(_asking(more=',"prompt":{"id":"pmpt_1"}'), "prompt", id="a prompt that the vendor keeps"),
        pytest.param(_asking(more=',"file_ids":["file_1"]'), "file_ids", id="files beside the messages"),
        pytest.param(_asking(more=',"images":["AAAA"]'), "images", id="pictures beside the messages"),
        pytest.param(
            _asking(more=',"tools":[{"type":"function","function":{"name":"f"},"googleSearch":{}}]'),
            "tools[0].googleSearch",
            id="a search beside a function",
        ),
        pytest.param(_asking(more=',"service_tier":"Priority"'), "service_tier", id="a tier in another case"),
        pytest.param(
            _asking('[{"role":"user","content":"Hi","images":["AAAA"]}]'), "messages[0].images", id="Ollama's pictures"
        ),
        pytest.param(
            _asking('[{"role":"user","content":"Hi","file_ids":["f"]}]'),
            "messages[0].file_ids",
            id="files of a message",
        ),
        pytest.param(
            _asking(
                '[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://e.com/a.pdf#page=2"}}]}]'
            ),
            "messages[0].content[0]",
            id="a file behind a fragment",
        ),
        pytest.param(
            _asking(
                '[{"role":"user","content":[{"type":"audio_url","audio_url":{"url":"data:video/mp4;base64,AA"}}]}]'
            ),
            "messages[0].content[0]",
            id="a video as audio",
        ),
        pytest.param(
            _asking('[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"A","id":"audio_1"}}]}]'),
            "messages[0].content[0].input_audio",
            id="audio by id, bounded by its data",
        ),
        pytest.param(
            _asking(f'[{{"role":"user","content":[{{"type":"image_url",{_PICTURE},"data":"{_DATA}"}}}}]}}]'),
            "messages[0].content[0].image_url",
            id="a long text for the price of a picture",
        ),
    ],
)
async def test_what_a_vendor_may_read_otherwise_is_refused_by_name(place: Place, sent: bytes, param: str) -> None:
    """Each took more of some vendor than was held for it."""
    served = await place.serve(Shop(actions={"service_tier": "pass"}), sent, 10**12)
    place.check_refused(served)
    assert served.error is not None
    assert served.error.param == param


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        pytest.param(
            '[{"role":"user","content":[{"type":"text","text":"%s","text":"a"}]}]', "messages[0].content[0].text"
        ),
        pytest.param('[{"role":"user","content":"Hi","name":"%s","name":null}]', "messages[0].name"),
        pytest.param('[{"role":"system","role":"user","content":"%s"}]', "messages[0].role"),
        pytest.param(
            '[{"role":"assistant","tool_calls":[]},{"role":"user","content":"%s","content":"a"}]', "messages[1].content"
        ),
        pytest.param(
            '[{"role":"assistant","tool_calls":[{"arguments":"%s"}],"tool_calls":[]}]', "messages[0].tool_calls"
        ),
        pytest.param(
            '[{"role":"tool","content":"Hi","tool_call_id":"%s","tool_call_\\u0069d":"a"}]', "messages[0].tool_call_id"
        ),
    ],
    ids=["text", "name", "role", "content", "tool_calls", "tool_call_id"],
)
async def test_a_key_given_twice_is_refused_also_among_texts_alone(place: Place, messages: str, param: str) -> None:
    """Near the end of a wallet the last of them was counted; a vendor that takes the first billed the other."""
    shop = Shop(provider="openai", limit_name="max_completion_tokens", takes_first=True)
    sent = _asking(messages % ("word " * 900), ',"max_tokens":10')
    served = await place.serve(shop, sent, PRICES.input * len(sent) // 1_000_000)
    place.check_refused(served)
    assert served.error is not None
    assert served.error.param == param


@pytest.mark.parametrize("name", ["a.pdf%20", "a.pdf/", "a.docx", "a.xlsx/%20?x=1", "a.mp4/", "a.mp3%20", "a.pdf;v=1"])
async def test_an_address_that_names_no_picture_is_bounded_as_what_it_names(place: Place, name: str) -> None:
    """A server takes the blank or the slash at its end for nothing; it was held for as a picture."""
    part = f'{{"type":"image_url","image_url":{{"url":"https://e.com/{name}"}}}}'
    sent = _asking(f'[{{"role":"user","content":[{part}]}}]')
    served = await place.serve(Shop(), sent, 10**12)
    place.check_refused(served)
    assert served.error is not None
    assert served.error.param == "messages[0].content[0]"


@pytest.mark.parametrize(
    "url", ["https://e.com/a", "https://e.com/a.jpg/", "https://e.com", "https://e.com/a.php?f=b.pdf"]
)
async def test_an_address_that_tells_nothing_is_bounded_as_a_picture(place: Place, url: str) -> None:
    part = f'{{"type":"image_url","image_url":{{"url":"{url}"}}}}'
    served = await place.serve(Shop(), _asking(f'[{{"role":"user","content":[{part}]}}]'), 10**12)
    place.check_paid(served, Shop())


_CALLS = '[{"type":"function","function":{"name":"f","arguments":"%s"},"function":{"name":"g"}}]' % ("word " * 900)


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param("[" + ",".join(['{"role":"assistant"}'] * 200) + "]", id="messages without content"),
        pytest.param("[" + ",".join(['{"role":"user","content":[]}'] * 200) + "]", id="messages without parts"),
        pytest.param("[" + ",".join(['{"role":"user","content":"","name":""}'] * 200) + "]", id="names"),
        pytest.param(f'[{{"role":"assistant","tool_calls":{_CALLS}}}]', id="a key twice in a call"),
    ],
)
async def test_a_prompt_that_is_counted_counts_all_of_it(place: Place, messages: str) -> None:
    """Near the end of a wallet: a message costs its turn, and of two equal keys Go's reader takes what both have."""
    shop = Shop(provider="openai", limit_name="max_completion_tokens")
    sent = _asking(messages, ',"max_tokens":10')
    served = await place.serve(shop, sent, PRICES.input * len(sent) // 1_000_000)
    place.check_paid(served, shop)


@pytest.mark.parametrize("language", ["ಕನ್ನಡ ಭಾಷೆ ", "မြန်မာဘာသာ ", "ქართული ენა "])
@pytest.mark.parametrize(
    "upstream_model", ["gpt-4", "gpt-4-turbo", "gpt-3.5-turbo", "ft:gpt-3.5-turbo:org::id", "mine"]
)
async def test_near_the_end_of_a_wallet_an_older_tokenizer_is_never_counted_with_ours(
    place: Place, upstream_model: str, language: str
) -> None:
    """The models before gpt-4o have up to six times as many tokens for a text as `o200k_base`: their bytes stand."""
    shop = Shop(provider="openai", limit_name="max_completion_tokens", upstream_model=upstream_model)
    messages = msgspec.json.encode([{"role": "user", "content": language * 300}]).decode()
    sent = _asking(messages, ',"max_tokens":10')
    served = await place.serve(shop, sent, PRICES.input * len(sent) // 1_000_000)
    place.check_refused(served)
    served = await place.serve(shop, sent, 10**12)
    place.check_paid(served, shop)
    newer = msgspec.structs.replace(shop, upstream_model="gpt-4o-mini")
    served = await place.serve(newer, sent, PRICES.input * len(sent) // 1_000_000)
    place.check_paid(served, newer)


async def test_the_detail_of_a_part_never_makes_its_picture_cheaper(place: Place) -> None:
    """A vendor may go by the `detail` beside the picture, or by the one in it."""
    sent = _asking(f'[{{"role":"user","content":[{{"type":"image_url",{_PICTURE}}},"detail":"high"}}]}}]')
    shop = Shop(model=msgspec.structs.replace(MODEL, media=Media(image=ImageTokens(low=2_833, high=48_169))))
    served = await place.serve(shop, sent, 10**12)
    place.check_paid(served, shop)


async def test_pictures_of_an_answer_before_are_bounded_like_any(place: Place) -> None:
    """OpenRouter's answers have them beside their content, and customers send them back."""
    image = '{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}'
    sent = _asking(
        f'[{{"role":"assistant","content":"See","images":[{image},{image}]}},{{"role":"user","content":"Hi"}}]'
    )
    served = await place.serve(Shop(), sent, 10**12)
    place.check_paid(served, Shop())


@pytest.mark.parametrize("provider", ["mistral", "openai_compatible"])
async def test_a_field_is_paid_for_where_the_vendor_gets_it(place: Place, provider: str) -> None:
    """Mistral refuses requests with `store`, which is left out for it."""
    prices = msgspec.structs.replace(PRICES, fields={"store": 1_000_000})
    model = msgspec.structs.replace(MODEL, prices=prices)
    shop = Shop(provider=provider, model=model, actions={"store": "pass"})
    served = await place.serve(shop, _asking(more=',"store":true'), 10**12)
    place.check_paid(served, shop)


async def test_what_a_rule_of_the_operator_adds_is_never_unpaid(place: Place) -> None:
    """The customer did not ask for it: the charge ends at what was held, and the receipt says that the vendor took
    more."""
    rules = FieldRules(set={"documents": ["word " * 1_000], "n": 3})
    sent = _asking(more=',"max_tokens":10')
    served = await place.serve(Shop(shaping=Shaping(params=rules)), sent, 10**12)
    receipt = served.receipt
    assert receipt is not None
    assert served.unpaid_nano == 0
    assert receipt.vendor_excess
    assert receipt.usage == Usage(input_tokens=len(sent), output_tokens=10)
