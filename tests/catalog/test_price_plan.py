"""What an import would change: exact markups, and a reason for everything that is skipped."""

import json
from decimal import Decimal
from typing import Any

import pytest

from app.base.errors import InvalidField
from app.catalog.price_files import PriceFile, read_price_file
from app.catalog.price_plan import parse_markup, plan_books, plan_costs, plan_sales
from app.catalog.pricing import Prices, Sale, Tier
from app.catalog.records import Book, Model


def _listed(**models: dict[str, Any]) -> PriceFile:
    return read_price_file(json.dumps(models))


def _entry(input_usd: str, output_usd: str = "0.000001", **more: Any) -> dict[str, Any]:
    return {"input_cost_per_token": float(input_usd), "output_cost_per_token": float(output_usd), **more}


def _model(name: str, prices: Prices | None) -> Model:
    return Model(
        name=name,
        context_length=None,
        max_output_tokens=None,
        description="",
        fallbacks=(),
        prices=prices,
        price_version=None if prices is None else "prc_1",
        created_at_ms=0,
    )


@pytest.mark.parametrize(
    ("usd_a_token", "markup", "nano"),
    [
        ("1.5e-07", "1.3", 195_000_000),  # 0.15 USD x 1.3 = 0.195
        ("6e-07", "1.3", 780_000_000),
        ("1e-06", "1", 10**9),
        ("1e-06", "0.333333", 333_333_000),
        ("1e-15", "1.5", 2),  # 1 nano x 1.5 = 1.5, half up
        ("1e-15", "1.499999", 1),
        ("1e-15", "0.5", 1),
        ("1e-15", "0.499999", 0),
        ("3e-15", "0.833333", 2),  # 2.499999
        ("1.1e-06", "1.1", 1_210_000_000),  # 1.2100000000000002 in floats
    ],
)
def test_the_markup_multiplies_exactly(usd_a_token: str, markup: str, nano: int) -> None:
    """And rounds half up to a nano per million tokens, once."""
    text = f'{{"m": {{"input_cost_per_token": {usd_a_token}, "output_cost_per_token": 1e-06}}}}'
    (change,) = plan_sales(read_price_file(text), {"m": _model("m", None)}, markup=parse_markup(markup))
    assert change.then is not None and change.then.input == nano


def test_each_model_is_new_changed_unchanged_or_skipped() -> None:
    """Equal prices are no change; a model that nobody sells here is skipped unless it is to be created."""
    listed = _listed(**{name: _entry("1e-06") for name in ("priced", "same", "unpriced", "unheard-of")})
    models = {
        "priced": _model("priced", Prices(input=1, output=1)),
        "same": _model("same", Prices(input=10**9, output=10**9)),
        "unpriced": _model("unpriced", None),
    }
    kinds = {change.model: change.kind for change in plan_sales(listed, models)}
    assert kinds == {"priced": "changed", "same": "unchanged", "unpriced": "new", "unheard-of": "skipped"}
    kinds = {change.model: change.kind for change in plan_sales(listed, models, create=True, pattern="un*")}
    assert kinds == {"unpriced": "new", "unheard-of": "new"}


def test_what_is_priced_beside_the_tokens_survives_an_import() -> None:
    """Lists say nothing of it: the operator's own prices stand, and are no difference."""
    extras: dict[str, Any] = {"service_tiers": {"priority": 2_000_000}, "fields": {"plugins": 10}}
    models = {
        "priced": _model("priced", Prices(input=1, output=1, **extras)),
        "same": _model("same", Prices(input=10**9, output=10**9, **extras)),
    }
    changes = {
        change.model: change for change in plan_sales(_listed(priced=_entry("1e-06"), same=_entry("1e-06")), models)
    }
    assert changes["priced"].then == Prices(input=10**9, output=10**9, **extras)
    assert changes["same"].kind == "unchanged"


def test_a_books_own_prices_are_compared_with_its_own() -> None:
    """Not with the model's."""
    book = Book(
        name="vip",
        multiplier=1,
        description="",
        own={"mine": Sale("prc_2", Prices(input=10**9, output=10**9))},
        created_at_ms=0,
    )
    models = {name: _model(name, Prices(input=10**9, output=10**9)) for name in ("mine", "other")}
    changes = plan_sales(_listed(mine=_entry("1e-06"), other=_entry("1e-06")), models, book)
    assert [(change.model, change.kind) for change in changes] == [("mine", "unchanged"), ("other", "new")]


@pytest.mark.parametrize(
    ("entry", "markup", "named"),
    [
        (_entry("0", "0"), "1", "free"),
        (_entry("1e-06"), "0", "free"),
        (_entry("0.003"), "1", "prices.input"),  # 3,000 USD per million: a price in the wrong unit
        (_entry("0.001"), "3", "prices.input"),
        ({"mode": "rerank", "input_cost_per_token": 1}, "1", "rerank"),
    ],
)
def test_a_doubtful_price_is_skipped(entry: dict[str, Any], markup: str, named: str) -> None:
    """Lists have zeros where nothing is known, and typos; neither is sold by."""
    (change,) = plan_sales(
        _listed(m=entry, n=_entry("1")), {"m": _model("m", None)}, markup=parse_markup(markup), pattern="m"
    )
    assert change.kind == "skipped" and named in change.reason


def test_tiers_are_marked_up_too() -> None:
    listed = _listed(m=_entry("1e-06", input_cost_per_token_above_200k_tokens=2e-06))
    (change,) = plan_sales(listed, {"m": _model("m", None)}, markup=Decimal("1.5"))
    tier = Tier(above_input_tokens=200_000, input=3 * 10**9, output=15 * 10**8)
    assert change.then == Prices(input=15 * 10**8, output=15 * 10**8, tiers=(tier,))


def test_costs_are_taken_as_they_stand() -> None:
    """By upstream name, zero included: what a vendor takes nothing for costs nothing."""
    listed = _listed(served=_entry("1e-06"), gratis=_entry("0", "0"), other=_entry("1e-06"))
    changes = plan_costs(listed, {"served": Prices(input=10**9, output=10**9)}, ["served", "gratis"])
    assert {change.model: change.kind for change in changes} == {
        "served": "unchanged",
        "gratis": "new",
        "other": "skipped",
    }


def test_groups_become_books() -> None:
    """Except a default that is not 1: the models' own prices are everybody's measure."""
    groups = (
        '{"ModelRatio": {}, "GroupRatio": {"default": %s, "vip": 0.8, "svip": 0.5, "old": 2, "a/b": 1, "dear": 1e6}}'
    )
    books = {"default": 1_000_000, "vip": 800_000, "old": 1_500_000}
    plan = {change.book: change for change in plan_books(read_price_file(groups % "1"), books)}
    kinds = {name: change.kind for name, change in plan.items()}
    assert kinds == {
        "default": "unchanged",
        "vip": "unchanged",
        "svip": "new",
        "old": "changed",
        "a/b": "skipped",
        "dear": "skipped",
    }
    assert (plan["svip"].then, plan["old"].now, plan["old"].then) == (500_000, 1_500_000, 2_000_000)
    plan = {change.book: change for change in plan_books(read_price_file(groups % "1.2"), books)}
    assert plan["default"].kind == "skipped" and "--markup" in plan["default"].reason


@pytest.mark.parametrize("text", ["", "1,3", "-1", "1e1", "1.1234567", "1001", "nan"])
def test_a_markup_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidField) as refusal:
        parse_markup(text)
    assert refusal.value.param == "markup"
