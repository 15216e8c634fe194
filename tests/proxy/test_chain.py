"""Which model stands in for which, and the hold that goes along."""

from collections.abc import Collection

import msgspec
import pytest

from app.base.limits import NO_LIMITS
from app.catalog.pricing import Prices, Sale
from app.catalog.records import Model, Routing
from app.catalog.snapshot import Snapshot, build_snapshot
from app.proxy.admission import cover
from app.proxy.chain import ModelChain
from app.proxy.records import Caller, Hold
from tests.proxy.makers import order
from tests.quota.till import Till

PRICES = Prices(input=1_000_000, output=2_000_000)  # 1 and 2 nano a token


def model(
    name: str, window: int | None = 100, *fallbacks: str, longer: tuple[str, ...] = (), **fields: object
) -> Model:
    values: dict[str, object] = {
        "context_length": window,
        "max_output_tokens": None,
        "description": "",
        "fallbacks": fallbacks,
        "prices": PRICES,
        "price_version": f"prc_{name}",
        "created_at_ms": 0,
        "routing": Routing(context_fallbacks=longer),
    }
    return Model(name=name, **values | fields)  # type: ignore[arg-type]


def caller(till: Till | None = None, models: frozenset[str] | None = None) -> Caller:
    return Caller(
        account_id="acc_1",
        key_id="key_1",
        book="default",
        slots=None if till is None else till.slots,  # type: ignore[arg-type]
        limits=NO_LIMITS,
        models=models,
        networks=None,
        expires_at_ms=None,
    )


def walk(snapshot: Snapshot, also: list[str], too_long: Collection[str] = (), **fields: object) -> list[str]:
    """The models in the order they are tried, where every one of them fails; those in `too_long` with the prompt."""
    asked = order(model="a", models=also)
    chain = ModelChain(snapshot, caller(**fields), asked)  # type: ignore[arg-type]
    current, tried = snapshot.models["a"], []
    while True:
        chain.failed(current, is_overflow=current.name in too_long)
        offer = chain.next()
        if offer is None:
            return tried
        current = offer.model
        tried.append(current.name)


@pytest.mark.parametrize(
    ("models", "also", "too_long", "expected"),
    [
        pytest.param([model("a")], [], set(), "", id="nobody"),
        pytest.param([model("a", 100, "b", "c"), model("b"), model("c")], [], set(), "b c", id="in their order"),
        pytest.param([model("a", 100, "b"), model("b"), model("c")], ["c"], set(), "c b", id="the client's first"),
        pytest.param([model("a", 100, "a", "b", "b"), model("b", 100, "a")], ["a"], set(), "b", id="each once"),
        pytest.param(
            [model("a", 100, "b", "c"), model("b", 100, "d"), model("c"), model("d", 100, "b")],
            [],
            set(),
            "b c d",
            id="theirs after its own",
        ),
        pytest.param(
            [model("a", 100, "gone", "unsold", "b"), model("unsold", prices=None), model("b")],
            [],
            set(),
            "b",
            id="not to be had",
        ),
        pytest.param([model("a", 100, "b"), model("b", 200)], ["b"], {"a"}, "", id="too long, and no way out"),
        pytest.param(
            [
                model("a", 100, "b", longer=("s", "e", "l", "u")),
                model("b", 900),
                *(model("s", 99), model("e", 100), model("l", 101), model("u", None)),
            ],
            [],
            {"a"},
            "l u",
            id="only where the window is longer, or not known",
        ),
        pytest.param(
            [model("a", 100, longer=("l", "m")), model("l", 300, longer=("x",)), model("m", 200), model("x", 400)],
            [],
            {"a", "l"},
            "l x",
            id="too long again",
        ),
        pytest.param(
            [model("a", None, longer=("l",)), model("l", 10)], [], {"a"}, "l", id="a window that is not known"
        ),
        pytest.param(
            [
                model("a", 100, "b", "s", "c"),
                model("b", 200, longer=("l",)),
                *(model("s", 150), model("c", 300), model("l", 400)),
            ],
            [],
            {"b"},
            "b l c",
            id="too long for a fallback",
        ),
    ],
)
def test_what_comes_next(models: list[Model], also: list[str], too_long: set[str], expected: str) -> None:
    assert " ".join(walk(build_snapshot(models, ()), also, too_long)) == expected


def test_what_the_key_may_not_use_is_passed_over() -> None:
    snapshot = build_snapshot([model("a", 100, "b", "c"), model("b"), model("c")], ())
    assert walk(snapshot, [], models=frozenset({"a", "c"})) == ["c"]


async def held(till: Till, balance: int, nano: int) -> Hold:
    await till.warm(balance)
    await till.admit("req_1", nano=nano)
    return Hold(amount_nano=nano, output_bound=10, generation=b"")


@pytest.mark.parametrize(
    ("balance", "nano", "fields", "bound", "amount"),
    [
        pytest.param(10_000, 50, {"max_tokens": 100}, 100, 300, id="dearer"),
        pytest.param(300, 50, {"max_tokens": 100}, 100, 300, id="to the last nano"),
        pytest.param(299, 50, {"max_tokens": 100}, None, 50, id="a nano short"),
        pytest.param(10_000, 5_000, {"max_tokens": 100}, 100, 5_000, id="cheaper keeps what it has"),
        pytest.param(10_000, 50, {"max_tokens": 4_000}, 500, 1_100, id="no more than the model gives"),
        pytest.param(10_000, 50, {"n": 3, "max_tokens": 100}, 300, 700, id="several answers"),
        pytest.param(10_000, 50, {"imposed_limit": 20}, 20, 140, id="the wallet's own limit"),
    ],
)
async def test_the_hold_covers_the_other_model(
    till: Till, balance: int, nano: int, fields: dict[str, int], bound: int | None, amount: int
) -> None:
    """A prompt of 100 tokens at 1 nano, and an answer at 2; what can't be paid for changes nothing."""
    hold = await held(till, balance, nano)
    said = {name: value for name, value in fields.items() if name != "imposed_limit"}
    asked = msgspec.structs.replace(order(**said), input_bound=100, imposed_limit=fields.get("imposed_limit"))
    other = model("b", max_output_tokens=500)
    moved = await cover(till.gate, caller(till), asked, hold, other, Sale("prc_b", PRICES))
    assert (None if moved is None else moved.output_bound) == bound
    assert (await till.wallet()).held_nano == amount
    assert moved is None or moved.amount_nano == amount
