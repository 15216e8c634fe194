"""Lists of receipts: what a filter finds, and that the sums by day narrow it down without losing any."""

from typing import Any

import pytest

from app.ledger.reports import ReceiptFilter, list_receipts
from tests.ledger.office import Office

NOON_MS = 1_700_049_600_000


async def found(office: Office, **wanted: Any) -> list[str]:
    async with office.books.database.read() as db:
        return [receipt["request_id"] for receipt in await list_receipts(db, ReceiptFilter(**wanted), None, 50)]


@pytest.mark.parametrize("name", ["model", "key_id", "channel_id"])
async def test_an_accounts_receipts_by_a_second_thing(office: Office, name: str) -> None:
    """Newest first, those of nobody else, and none where the account has none of it."""
    mine, other = await office.account(10**9), await office.account(10**9)
    receipts = []
    for number, account_id in enumerate((mine, mine, other, other)):
        at_ms = NOON_MS + number * 86_400_000
        request_id = f"req_{at_ms:012x}{number:016x}"
        receipts.append(await office.serve(account_id, 5, request_id=request_id, created_at_ms=at_ms))
    await office.keep_books()
    value = getattr(receipts[0], name)
    expected = sorted((each.request_id for each in receipts[:2] if getattr(each, name) == value), reverse=True)
    assert await found(office, account_ids=(mine,), **{name: value}) == expected != []
    assert await found(office, account_ids=(mine,), **{name: "none-such"}) == []
