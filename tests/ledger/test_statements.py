"""Statements: each month is what raw receipts and the journal say of it, and one closes where the next one opens."""

import random
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import insert, select

from app.base.clock import now_ms
from app.base.errors import InvalidField, NotFound
from app.base.ids import new_id
from app.base.receipt import Attempt, Movement, Usage
from app.ledger.corrections import refund
from app.ledger.items import StreamedMovement, StreamedReceipt
from app.ledger.journal import add_entry, move_balances
from app.ledger.posting import post
from app.ledger.statements import Statement, make_statement, read_month
from app.ledger.tables import entries, lots, postings, receipts
from tests.ledger.office import Office

_MONTHS = ("2023-09", "2023-10", "2023-11", "2023-12", "2024-01", "2024-02", "2024-03")


def _at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


# The first and the last millisecond of months, and anything in between.
_BORDERS = [_at(f"{month}-01T00:00:00") - shift for month in _MONTHS[1:-1] for shift in (0, 1)]


async def _state(office: Office, account_id: str, month: str) -> Statement:
    async with office.database.read() as db:
        return await make_statement(db, account_id, read_month(month))


async def _moved(office: Office, account_id: str, at_ms: int, nano: int, kind: str = "credit", **more: Any) -> str:
    """An entry of another day than today."""
    entry = {"id": new_id("ent"), "kind": kind, "account_id": account_id, "created_at_ms": at_ms, **more}
    purse = more.pop("purse", "wallet")
    entry.pop("purse", None)
    async with office.database.write() as db:
        await add_entry(db, entry, {f"{purse}:{account_id}": nano, "cash": -nano})
        await move_balances(db, {account_id: nano})
    return str(entry["id"])


async def _from_raw_rows(office: Office, account_id: str) -> dict[str, dict[str, Any]]:
    """By month, from single receipts and entries alone, in plain Python."""
    found: dict[str, dict[str, Any]] = {}

    def month_of(at_ms: int) -> dict[str, Any]:
        name = datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m")
        return found.setdefault(name, {"moved": 0, "charged": 0, "requests": 0, "model": {}, "key": {}})

    async with office.database.read() as db:
        for row in await db.execute(select(receipts).where(receipts.c.account_id == account_id)):
            month, charged = month_of(row.created_at_ms), row.amount_nano - row.unpaid_nano
            month["charged"] += charged
            month["requests"] += 1
            for group, name in (("model", row.model), ("key", row.key_id)):
                sums = month[group].setdefault(name, [0, 0, 0, 0, 0])
                for at, figure in enumerate((1, row.input_tokens, row.output_tokens, row.cached_input_tokens, charged)):
                    sums[at] += figure
        query = select(entries.c.created_at_ms, postings.c.amount_nano).join(
            postings, postings.c.entry_id == entries.c.id
        )
        purses = postings.c.ledger_account.in_((f"wallet:{account_id}", f"promo:{account_id}"))
        for row in await db.execute(query.where(entries.c.kind != "usage", purses)):
            month_of(row.created_at_ms)["moved"] += row.amount_nano
    return found


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_statement_is_what_the_raw_receipts_say(office: Office, seed: int) -> None:
    """Whatever the batches were that posted them: by month, model and key, and the balances in between; the last month
    closes at the wallet's balance."""
    rng = random.Random(seed)
    account, other = await office.account(), await office.account()
    batch = []
    for _ in range(120):
        usage = Usage(
            input_tokens=rng.randrange(1, 900),
            output_tokens=rng.randrange(900),
            cached_input_tokens=0 if rng.random() < 0.5 else 1,
        )
        fields: dict[str, Any] = {
            "created_at_ms": rng.choice([*_BORDERS, rng.randrange(_BORDERS[0], _BORDERS[-1])]),
            "model": rng.choice(["small", "large"]),
            "key_id": rng.choice(["key_1", "key_2", "key_3"]),
            "channel_id": rng.choice(["chn_1", "chn_2", None]),
        }
        if fields["channel_id"] is None:
            fields["amount_nano"] = 0
        if rng.random() < 0.3:
            failed = Attempt(channel_id="chn_3", http_status=500, error="http_500", duration_ms=1, cost_nano=5)
            fields |= {"attempts": (failed,), "upstream_cost_nano": 5}
        receipt = office.receipt(rng.choice([account, account, other]), usage, **fields)
        unpaid = rng.randrange(receipt.amount_nano + 1) if rng.random() < 0.2 else 0
        batch.append((receipt, unpaid))
    streamed = [StreamedReceipt(receipt, unpaid) for receipt, unpaid in batch]
    while streamed:
        size = rng.randrange(1, 40)
        await post(office.database, streamed[:size])
        streamed = streamed[size:]
    for _ in range(25):
        at_ms = rng.choice([*_BORDERS, rng.randrange(_BORDERS[0], _BORDERS[-1])])
        nano = rng.randrange(-5_000, 20_000) or 1
        kind = rng.choice(["credit", "adjustment", "refund", "lapse"])
        await _moved(office, account, at_ms, nano, kind, purse=rng.choice(["wallet", "promo"]))

    raw = await _from_raw_rows(office, account)
    today = datetime.fromtimestamp(now_ms() // 1000, UTC).strftime("%Y-%m")
    balance = 0
    for month in (*_MONTHS, today):
        statement, expected = await _state(office, account, month), raw.get(month)
        assert statement.opening_nano == balance, month
        if expected is not None:
            assert statement.moved_nano == expected["moved"]
            assert (statement.usage.charged_nano, statement.usage.requests) == (
                expected["charged"],
                expected["requests"],
            )
            for lines, group in ((statement.by_model, "model"), (statement.by_key, "key")):
                assert {
                    line.name: [
                        line.requests,
                        line.input_tokens,
                        line.output_tokens,
                        line.cached_input_tokens,
                        line.charged_nano,
                    ]
                    for line in lines
                } == expected[group]
            balance += expected["moved"] - expected["charged"]
        assert statement.closing_nano == balance, month
    assert balance == await office.journal_balance(account)
    assert sum(each["requests"] for each in raw.values()) > 50


async def test_a_batch_over_midnight_is_cut_at_midnight(office: Office) -> None:
    """One entry charges both; each month has its own."""
    account = await office.account()
    midnight = _at("2023-12-01T00:00:00")
    before = office.streamed(account, 10, created_at_ms=midnight - 1)
    after = office.streamed(account, 1_000, created_at_ms=midnight)
    await post(office.database, [before, after])
    november, december = await _state(office, account, "2023-11"), await _state(office, account, "2023-12")
    assert november.usage.charged_nano == before.receipt.amount_nano
    assert december.usage.charged_nano == after.receipt.amount_nano
    assert november.closing_nano == december.opening_nano == -before.receipt.amount_nano


async def test_movements_say_what_they_are(office: Office) -> None:
    """Promotional money and its last day, a refund with its request, a lapse with its credit; a credit line moves
    nothing, and is not there."""
    account = await office.account(1_000)
    month = datetime.fromtimestamp(now_ms() // 1000, UTC).strftime("%Y-%m")
    at_ms = now_ms()
    gift = await _moved(office, account, at_ms + 1, 70, purse="promo", memo="welcome")
    async with office.database.write() as db:
        await db.execute(
            insert(lots).values(
                entry_id=gift,
                account_id=account,
                promotional=True,
                amount_nano=70,
                remaining_nano=70,
                expires_at_ms=at_ms + 5,
            )
        )
    served = office.streamed(account, 100, created_at_ms=at_ms)
    await post(office.database, [served])
    lapse = Movement(id=new_id("ent"), account_id=account, kind="lapse", created_at_ms=at_ms + 3, lot=gift)
    await post(office.database, [StreamedMovement(lapse, 70, {gift: 70})])
    async with office.database.write() as db:
        await refund(db, served.id, 3, "cut short", None)
    await _moved(office, account, at_ms, 0, "credit_line")

    statement = await _state(office, account, month)

    shown = [(each.kind, each.amount_nano, each.promotional, each.expires_at_ms) for each in statement.movements]
    assert sorted(shown) == sorted(
        [
            ("credit", 1_000, False, None),
            ("credit", 70, True, at_ms + 5),
            ("lapse", -70, True, None),
            ("refund", 3, False, None),
        ]
    )
    by_kind = {each.kind: each for each in statement.movements}
    assert (by_kind["refund"].corrects, by_kind["refund"].memo) == (served.id, "cut short")
    assert statement.moved_by_kind() == {"credit": 1_070, "refund": 3, "adjustment": 0, "lapse": -70}
    assert statement.closing_nano == await office.journal_balance(account)
    assert statement.provisional


async def test_another_account_has_its_own_statement(office: Office) -> None:
    account, other = await office.account(), await office.account()
    await post(office.database, [office.streamed(other, 10, created_at_ms=_at("2023-11-05T00:00:00"))])
    statement = await _state(office, account, "2023-11")
    assert (statement.closing_nano, statement.usage.requests, statement.by_key) == (0, 0, ())
    assert not statement.provisional


async def test_who_is_not_there_has_no_statement(office: Office) -> None:
    with pytest.raises(NotFound):
        await _state(office, "acc_nobody", "2023-11")


@pytest.mark.parametrize("month", ["", "2023", "2023-13", "2023-00", "2023-1", "0000-01", "9999-12", "2023-01-01", "x"])
def test_what_is_no_month_is_refused(month: str) -> None:
    with pytest.raises(InvalidField) as refusal:
        read_month(month)
    assert refusal.value.param == "month"


def test_a_month_ends_where_the_next_one_begins() -> None:
    assert [str(read_month(month).end) for month in ("2024-02", "2023-12")] == ["2024-03-01", "2024-01-01"]
    assert str(read_month("2024-02").last) == "2024-02-29"
