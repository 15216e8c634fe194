"""Price books and price versions in the database: nothing that was charged by is ever edited."""

from typing import Any

import pytest

from app.base.crypto import Sealer
from app.base.database import Database
from app.base.errors import Conflict, InvalidField
from app.catalog import books, customers, offers
from app.catalog.pricing import Cost, Prices
from app.catalog.records import Channel, PriceVersion
from app.catalog.versions import list_versions

MODEL: dict[str, Any] = {"context_length": None, "max_output_tokens": None, "description": "", "fallbacks": []}
CHANNEL: dict[str, Any] = {
    "name": "main",
    "provider": "openai",
    "base_url": "https://vendor.example",
    "credentials": [],
    "models": {"small": "vendor-small"},
    "timeouts": {},
    "priority": 0,
    "weight": 1,
    "enabled": True,
}
CHEAP, DEAR = Prices(input=1, output=2), Prices(input=3, output=4)
SEALER = Sealer("secret")


async def _history(db: Database, **wanted: str) -> list[PriceVersion]:
    filters: dict[str, str | None] = {"model": None, "book": None, "channel_id": None, **wanted}
    async with db.read() as connection:
        return await list_versions(connection, **filters, before=None, limit=100)


async def _change(db: Database, channel_id: str, costs: dict[str, Prices] | None, **values: Any) -> Channel:
    async with db.write() as connection:
        channel = await offers.update_channel(connection, SEALER, channel_id, values, costs)
    assert channel is not None
    return channel


async def test_the_default_book_comes_with_the_schema(db: Database) -> None:
    """There is always one, at multiplier 1."""
    async with db.read() as connection:
        (book,) = await books.list_books(connection)
    assert (book.name, book.multiplier, book.own) == ("default", 1_000_000, {})


async def test_costs_of_a_channel_are_versions(db: Database) -> None:
    """Equal costs keep their version, changed ones get a new one; the old ones can still be read."""
    async with db.write() as connection:
        channel = await offers.create_channel(connection, SEALER, CHANNEL, {"a": CHEAP, "b": CHEAP})
    first = channel.costs
    assert {name: cost.prices for name, cost in first.items()} == {"a": CHEAP, "b": CHEAP}

    channel = await _change(db, channel.id, {"a": CHEAP, "b": DEAR})
    assert (channel.costs["a"], channel.costs["b"].prices) == (first["a"], DEAR)
    assert channel.costs["b"].version != first["b"].version

    channel = await _change(db, channel.id, None, weight=7)
    assert channel.costs["a"] == first["a"], "a change of something else leaves the costs alone"
    channel = await _change(db, channel.id, {})
    assert channel.costs == {}
    kept = {each.id: Cost(each.id, each.prices) for each in await _history(db, channel_id=channel.id)}
    assert len(kept) == 3 and [kept[cost.version] for cost in first.values()] == list(first.values())


async def test_a_book_keeps_what_a_change_leaves_out(db: Database) -> None:
    """Multiplier, description and the prices of models that are not named; null takes a price away."""
    async with db.write() as connection:
        for name in ("small", "large"):
            await offers.put_model(connection, name, MODEL, CHEAP)
        made, is_new = await books.put_book(
            connection, "resellers", {"multiplier": 800_000}, {"small": DEAR, "large": DEAR}
        )
        assert is_new and (made.multiplier, made.description) == (800_000, "")
        changed, is_new = await books.put_book(
            connection, "resellers", {"description": "20 % off"}, {"small": None, "large": DEAR}
        )
        assert not is_new and (changed.multiplier, changed.description) == (800_000, "20 % off")
        assert changed.own == {"large": made.own["large"]}, "equal prices keep their version"
        again, _ = await books.put_book(connection, "resellers", {}, {"large": CHEAP})
    assert again.own["large"].prices == CHEAP and again.own["large"].version != made.own["large"].version
    assert {each.model for each in await _history(db, book="resellers")} == {"small", "large"}
    assert len(await _history(db, book="resellers")) == 3
    assert {each.book for each in await _history(db, book="default")} == {None}
    assert [each.prices for each in await _history(db, model="large")][-1] == CHEAP


@pytest.mark.parametrize(
    ("name", "values", "prices", "field"),
    [
        ("default", {"multiplier": 2_000_000}, {}, "multiplier"),
        ("default", {}, {"small": CHEAP}, "prices"),
        ("other", {}, {"unheard-of": CHEAP}, "prices.unheard-of"),
    ],
)
async def test_a_book_that_can_not_be_is_refused(
    db: Database, name: str, values: dict[str, Any], prices: dict[str, Prices | None], field: str
) -> None:
    """The default is the models' own prices, once; and a price of a model that is not there is a typo."""
    with pytest.raises(InvalidField) as refusal:
        async with db.write() as connection:
            await books.put_book(connection, name, values, prices)
    assert refusal.value.param == field
    async with db.read() as connection:
        assert [book.name for book in await books.list_books(connection)] == ["default"]


async def test_a_book_that_accounts_pay_by_stays(db: Database) -> None:
    """It can be deleted when the last has another; what was charged by it can still be looked up."""
    async with db.write() as connection:
        await offers.put_model(connection, "small", MODEL, CHEAP)
        book, _ = await books.put_book(connection, "resellers", {}, {"small": DEAR})
        account = await customers.create_account(connection, "acme", "resellers")
    with pytest.raises(Conflict):
        async with db.write() as connection:
            await books.delete_book(connection, "resellers")
    async with db.write() as connection:
        moved = await customers.update_account(connection, account.id, {"book": "default"})
        assert moved is not None and moved.book == "default"
        assert await books.delete_book(connection, "resellers")
        assert not await books.delete_book(connection, "resellers")
        with pytest.raises(Conflict):
            await books.delete_book(connection, "default")
    assert [each.id for each in await _history(db, book="resellers")] == [book.own["small"].version]


async def test_nobody_pays_by_a_book_that_is_not_there(db: Database) -> None:
    async with db.write() as connection:
        account = await customers.create_account(connection, "acme")
        for wrong in (
            customers.create_account(connection, "other", "nowhere"),
            customers.update_account(connection, account.id, {"book": "nowhere"}),
        ):
            with pytest.raises(InvalidField) as refusal:
                await wrong
            assert refusal.value.param == "book"


@pytest.mark.parametrize("name", ["", " ", "a/b", " vip", "vip\n", "x" * 101])
def test_a_name_that_no_address_can_carry_is_refused(name: str) -> None:
    with pytest.raises(InvalidField) as refusal:
        books.check_book_name(name, "name")
    assert refusal.value.param == "name"
