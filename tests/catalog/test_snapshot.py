"""The snapshot: what is on sale, and which channels serve it, as the proxy reads it."""

from typing import Any

import pytest

from app.catalog.pricing import Prices, Sale
from app.catalog.records import Book, Channel, Model
from app.catalog.snapshot import build_snapshot
from tests.proxy.makers import make_channel

PRICES = Prices(input=1, output=2)


def _model(name: str, prices: Prices | None = PRICES) -> Model:
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


def _book(name: str, multiplier: int = 1_000_000, **own: Sale) -> Book:
    return Book(name=name, multiplier=multiplier, description="", own=own, created_at_ms=0)


def _channel(channel_id: str, *models: str, **fields: Any) -> Channel:
    return make_channel(channel_id, models={name: f"vendor-{name}" for name in models}, **fields)


def test_channels_come_by_priority() -> None:
    """The highest first; among equals the order in which they were made."""
    channels = [
        _channel("chn_1", "small", priority=0),
        _channel("chn_2", "small", priority=5),
        _channel("chn_3", "small", priority=-1),
        _channel("chn_4", "small", priority=5),
    ]
    snapshot = build_snapshot([_model("small")], channels)
    assert [channel.id for channel in snapshot.routes["small"]] == ["chn_2", "chn_4", "chn_1", "chn_3"]


def test_disabled_channels_serve_nothing() -> None:
    snapshot = build_snapshot([_model("small")], [_channel("chn_1", "small", enabled=False)])
    assert snapshot.routes == {"small": ()}


def test_a_channel_serves_the_models_it_names() -> None:
    """And only those that are on sale: what it serves beyond them is nobody's to ask for."""
    channels = [_channel("chn_1", "small", "large"), _channel("chn_2", "large", "unlisted")]
    snapshot = build_snapshot([_model("small"), _model("large")], channels)
    served = {name: [channel.id for channel in route] for name, route in snapshot.routes.items()}
    assert served == {"small": ["chn_1"], "large": ["chn_1", "chn_2"]}


def test_a_model_without_a_price_is_not_sold() -> None:
    """Nobody gets for nothing what the operator has not priced yet; a price of zero is a price."""
    snapshot = build_snapshot(
        [_model("unpriced", None), _model("free", Prices(input=0, output=0))], [_channel("chn_1", "unpriced", "free")]
    )
    assert set(snapshot.models) == set(snapshot.routes) == {"free"}


SPECIAL = Sale("prc_2", Prices(input=7, output=9))


@pytest.mark.parametrize(
    ("model", "book", "sale"),
    [
        ("small", "default", Sale("prc_1", PRICES)),
        ("small", "resellers", Sale("prc_1", PRICES, 800_000)),
        ("small", "partners", SPECIAL),
        ("large", "partners", Sale("prc_1", PRICES, 1_250_000)),
        ("small", "deleted", Sale("prc_1", PRICES)),
        ("unheard-of", "default", None),
        ("unheard-of", "partners", None),
    ],
)
def test_a_book_says_what_its_customers_pay(model: str, book: str, sale: Sale | None) -> None:
    """Its own price as it stands, else the model's with the book's multiplier; a book nobody knows is the default."""
    books = [
        _book("default"),
        _book("resellers", 800_000),
        _book("partners", 1_250_000, small=SPECIAL, gone=SPECIAL),
    ]
    assert build_snapshot([_model("small"), _model("large")], [], books).sale(model, book) == sale


def test_a_model_priced_in_a_book_alone_is_for_its_customers() -> None:
    """It has routes like any other; nobody else can buy it."""
    snapshot = build_snapshot([_model("beta", None)], [_channel("chn_1", "beta")], [_book("partners", beta=SPECIAL)])
    assert [channel.id for channel in snapshot.routes["beta"]] == ["chn_1"]
    assert (snapshot.sale("beta", "partners"), snapshot.sale("beta", "default")) == (SPECIAL, None)
