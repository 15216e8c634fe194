"""What customers ask about their own account with their key: its receipts' neighbours. The back rooms answer, through
the Protocols here; the counter only knows who asks, and in which shape OpenAI's clients read it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol

import msgspec

from app.base.clock import now_ms
from app.base.errors import Forbidden, InvalidField
from app.base.fields import named_fault
from app.base.money import format_usd
from app.proxy.access import Keyring
from app.proxy.journey import Visit
from app.proxy.records import Caller

__all__ = ["BillingSide", "Counter", "DayCost", "RedeemVoucher", "Redeemed"]

_DAYS_SHOWN = 100
_NANO_PER_CENT = 10_000_000
# Clients read `access_until` as the day on which the credit is gone: a key without an expiry says the last one.
_NEVER_S = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())


class Redeemed(Protocol):
    @property
    def entry_id(self) -> str: ...
    @property
    def amount_nano(self) -> int: ...
    @property
    def balance_nano(self) -> int: ...


class RedeemVoucher(Protocol):
    """Raises what the customer is told: no such code, redeemed, expired, cancelled, too many tries."""

    async def __call__(self, account_id: str, code: str, /) -> Redeemed: ...


class DayCost(Protocol):
    @property
    def day(self) -> date: ...
    @property
    def model(self) -> str: ...
    @property
    def charged_nano(self) -> int: ...


class BillingSide(Protocol):
    """An account's money. `credited` is all that came in, which requests don't move; `balance` is live."""

    async def credited(self, account_id: str, /) -> int: ...
    async def balance(self, account_id: str, /) -> int: ...
    async def costs_by_day(self, account_id: str, first: date, end: date, /) -> Sequence[DayCost]: ...


class _Redemption(msgspec.Struct, forbid_unknown_fields=True):
    code: str


_read_redemption = msgspec.json.Decoder(_Redemption).decode


class Counter:
    def __init__(self, keyring: Keyring, redeem: RedeemVoucher, billing: BillingSide) -> None:
        self._keyring = keyring
        self._redeem = redeem
        self._billing = billing

    async def redeem(self, visit: Visit) -> dict[str, object]:
        """`POST /v1/vouchers/redeem`."""
        caller = await self._enter(visit)
        body = await visit.read()
        try:
            code = _read_redemption(body).code
        except msgspec.ValidationError as error:
            raise named_fault(str(error)) from None
        except msgspec.DecodeError as error:
            raise InvalidField(None, f"the body is not valid JSON ({error})") from None
        redeemed = await self._redeem(caller.account_id, code)
        return {
            "amount": format_usd(redeemed.amount_nano),
            "balance": format_usd(redeemed.balance_nano),
            "entry_id": redeemed.entry_id,
        }

    async def subscription(self, visit: Visit) -> dict[str, object]:
        """`GET /dashboard/billing/subscription`: the limit is everything that ever came in."""
        caller = await self._enter(visit)
        limit = _usd(await self._billing.credited(caller.account_id))
        until_ms = caller.expires_at_ms
        return {
            "object": "billing_subscription",
            "has_payment_method": True,
            "soft_limit_usd": limit,
            "hard_limit_usd": limit,
            "system_hard_limit_usd": limit,
            "access_until": _NEVER_S if until_ms is None else until_ms // 1000,
        }

    async def usage(self, visit: Visit, query: Mapping[str, str]) -> dict[str, object]:
        """`GET /dashboard/billing/usage`, in cents.

        `total_usage` is of all time, whatever dates were asked for: clients show `hard_limit_usd - total_usage / 100`
        as the balance, and ask for the last 90 or 100 days, after which a balance would seem to grow by itself. As what
        came in less the live balance it has the requests of this moment in it, too. `daily_costs` keeps to the dates.
        """
        caller = await self._enter(visit)
        first, end = _days(query)
        days: dict[date, list[dict[str, Any]]] = {}
        for cost in await self._billing.costs_by_day(caller.account_id, first, end):
            days.setdefault(cost.day, []).append({"name": cost.model, "cost": _cents(cost.charged_nano)})
        used = await self._billing.credited(caller.account_id) - await self._billing.balance(caller.account_id)
        return {
            "object": "list",
            "daily_costs": [
                {"timestamp": int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()), "line_items": items}
                for day, items in days.items()
            ],
            "total_usage": _cents(used),
        }

    async def _enter(self, visit: Visit) -> Caller:
        """Raises Forbidden where the wallet is another's: its money is not this caller's business."""
        caller = await self._keyring.enter(visit.key, visit.address, visit.scope)
        if caller.member_id is not None:
            raise Forbidden("wallet_not_yours", "This account draws on the wallet of another, who alone may see it.")
        return caller


def _usd(nano: int) -> msgspec.Raw:
    """A JSON number, exact: no float takes part."""
    return msgspec.Raw(format_usd(nano).encode())


def _cents(nano: int) -> msgspec.Raw:
    whole, rest = divmod(abs(nano), _NANO_PER_CENT)
    decimals = f"{rest:07d}".rstrip("0") or "0"
    return msgspec.Raw(f"{'-' if nano < 0 else ''}{whole}.{decimals}".encode())


def _days(query: Mapping[str, str]) -> tuple[date, date]:
    """From `start_date` to before `end_date`, as OpenAI reads them; the last hundred days where they are not sent."""
    today = datetime.fromtimestamp(now_ms() // 1000, UTC).date()
    end = _day("end_date", query) or today + timedelta(days=1)
    first = _day("start_date", query) or end - timedelta(days=_DAYS_SHOWN)
    if first >= end:
        raise InvalidField("end_date", "must be after start_date")
    return first, end


def _day(name: str, query: Mapping[str, str]) -> date | None:
    if not query.get(name):
        return None
    try:
        day = date.fromisoformat(query[name])
    except ValueError:
        day = None
    if day is None or not 1970 <= day.year <= 9998:
        raise InvalidField(name, "must be a date such as 2026-01-31")
    return day
