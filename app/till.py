"""What customers ask about their own money, answered from the back rooms: vouchers redeemed, balances, costs by day."""

from contextlib import suppress
from datetime import date

import msgspec

from app.base.errors import Conflict, InvalidField, NotFound, ServiceUnavailable
from app.books import Books
from app.ledger.billing import DayCost, costs_by_day, credited_nano
from app.ledger.journal import read_wallet
from app.ledger.vouchers import redeem
from app.quota.guesses import Guesses

__all__ = ["Redeemed", "Till"]


class Redeemed(msgspec.Struct, frozen=True):
    entry_id: str
    amount_nano: int
    balance_nano: int


class Till:
    def __init__(self, books: Books) -> None:
        self._books = books
        self._guesses = Guesses(books.wire, books.shards)

    async def redeem(self, account_id: str, code: str) -> Redeemed:
        """Credits an account with a voucher, once. Raises InvalidField, NotFound, Conflict, RateLimited."""
        attempt = await self._guesses.begin(account_id)
        try:
            async with self._books.database.write() as db:
                credit = await redeem(db, account_id, code)
        except (InvalidField, NotFound, Conflict):
            raise  # a guess, and counted as one
        except BaseException:
            with suppress(ServiceUnavailable):
                await self._guesses.forgive(account_id, attempt)
            raise
        # It is in the journal now. Where Redis is away, the bookkeeper applies it later.
        with suppress(ServiceUnavailable):
            await self._guesses.forgive(account_id, attempt)
            await self._books.apply_credits(account_id)
        return Redeemed(credit.entry_id, credit.amount_nano, await self.balance(account_id))

    async def credited(self, account_id: str) -> int:
        async with self._books.database.read() as db:
            return await credited_nano(db, account_id)

    async def balance(self, account_id: str) -> int:
        """Live, where the wallet is built if it is not there; the journal's while Redis is away."""
        with suppress(ServiceUnavailable):
            if (wallet := await self._books.wallets.read(account_id)) is None:
                await self._books.apply_credits(account_id)
                wallet = await self._books.wallets.read(account_id)
            if wallet is not None:
                return wallet.balance_nano
        async with self._books.database.read() as db:
            return int((await read_wallet(db, account_id)).balance_nano)

    async def costs_by_day(self, account_id: str, first: date, end: date) -> list[DayCost]:
        async with self._books.database.read() as db:
            return await costs_by_day(db, account_id, first, end)
