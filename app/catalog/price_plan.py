"""What an imported price list would change: worked out first, shown, and written only then. Pure."""

from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_UP, Decimal, DecimalException, localcontext
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from app.base.errors import InvalidField
from app.base.money import MULTIPLIER_ONE, NANO_PER_USD, parse_multiplier
from app.catalog.books import check_book_name
from app.catalog.price_files import ListedPrice, PriceFile, Rates
from app.catalog.pricing import FREE, Prices, parse_prices, show_prices
from app.catalog.records import Book, Model
from app.catalog.tables import DEFAULT_BOOK

__all__ = ["BookChange", "PriceChange", "parse_markup", "plan_books", "plan_costs", "plan_sales"]

Kind = Literal["new", "changed", "unchanged", "skipped"]

_NANO = Decimal(NANO_PER_USD)
_DIGITS = 60
_NAME_MOST = 200


class PriceChange(msgspec.Struct, frozen=True, kw_only=True):
    """One model of the list: its prices now and then; `reason` says why it is skipped."""

    model: str
    kind: Kind
    now: Prices | None = None
    then: Prices | None = None
    reason: str = ""
    context_length: int | None = None
    max_output_tokens: int | None = None


class BookChange(msgspec.Struct, frozen=True, kw_only=True):
    """One group of the list, which becomes a price book."""

    book: str
    kind: Kind
    now: int | None = None  # multipliers, in millionths
    then: int | None = None
    reason: str = ""


def parse_markup(text: str) -> Decimal:
    """`1.3` is thirty percent on top. Raises InvalidField."""
    return Decimal(parse_multiplier(text, "markup")) / MULTIPLIER_ONE


def plan_sales(
    listed: PriceFile,
    models: Mapping[str, Model],
    book: Book | None = None,
    *,
    markup: Decimal = Decimal(1),
    pattern: str = "*",
    create: bool = False,
) -> list[PriceChange]:
    """Sale prices: the models' own, or those of `book`. Models that are not there are skipped unless `create`."""
    changes = []
    for name in _wanted(listed, pattern):
        model = models.get(name)
        if model is None and not create:
            changes.append(_skipped(name, "is not in the catalogue; --create adds it"))
            continue
        if book is not None:
            now = book.own[name].prices if name in book.own else None
        else:
            now = None if model is None else model.prices
        change = _change(listed, name, now, markup)
        if change.then is not None and msgspec.structs.replace(change.then, tiers=()) == FREE:
            # Lists have zeros where they know nothing; giving away is the operator's word.
            change = _skipped(name, "every price is zero: set `free` yourself if it is meant")
        changes.append(change)
    return changes


def plan_costs(
    listed: PriceFile, costs: Mapping[str, Prices], served: Iterable[str], *, pattern: str = "*"
) -> list[PriceChange]:
    """What a channel's vendor takes, by upstream name; without any markup."""
    known = {*served, *costs}
    return [
        _change(listed, name, costs.get(name), Decimal(1)) if name in known else _skipped(name, "is not served there")
        for name in _wanted(listed, pattern)
    ]


def plan_books(listed: PriceFile, books: Mapping[str, int]) -> list[BookChange]:
    """Groups as price books; `books` has the multipliers of those that are there."""
    changes = []
    for name, ratio in sorted(listed.groups.items()):
        try:
            then = int((ratio * MULTIPLIER_ONE).quantize(Decimal(1), ROUND_HALF_UP))
        except DecimalException:
            then = -1
        now = books.get(name)
        try:
            check_book_name(name, "group")
        except InvalidField as error:
            changes.append(BookChange(book=name, kind="skipped", reason=error.problem))
            continue
        if not 0 <= then <= 1000 * MULTIPLIER_ONE:
            changes.append(BookChange(book=name, kind="skipped", reason="must be a ratio from 0 to 1000"))
        elif name == DEFAULT_BOOK and then != MULTIPLIER_ONE:
            reason = "the default book is the models' own prices: give --markup instead"
            changes.append(BookChange(book=name, kind="skipped", now=MULTIPLIER_ONE, then=then, reason=reason))
        else:
            kind: Kind = "new" if now is None else "unchanged" if now == then else "changed"
            changes.append(BookChange(book=name, kind=kind, now=now, then=then))
    return changes


def _wanted(listed: PriceFile, pattern: str) -> list[str]:
    return sorted(name for name in {*listed.models, *listed.skipped} if fnmatchcase(name, pattern))


def _change(listed: PriceFile, name: str, now: Prices | None, markup: Decimal) -> PriceChange:
    if name in listed.skipped:
        return _skipped(name, listed.skipped[name])
    if not 1 <= len(name) <= _NAME_MOST:
        return _skipped(name, f"a name has at most {_NAME_MOST} characters")
    price = listed.models[name]
    try:
        then = _prices(price, markup)
    except InvalidField as error:
        return _skipped(name, f"{error.param} {error.problem}")
    except DecimalException:
        return _skipped(name, "has a number out of all bounds")
    if now is not None:  # price lists say nothing of what is priced beside the tokens: the operator's prices stand
        then = msgspec.structs.replace(then, service_tiers=now.service_tiers, fields=now.fields)
    return PriceChange(
        model=name,
        kind="new" if now is None else "unchanged" if now == then else "changed",
        now=now,
        then=then,
        context_length=price.context_length,
        max_output_tokens=price.max_output_tokens,
    )


def _skipped(name: str, reason: str) -> PriceChange:
    return PriceChange(model=name, kind="skipped", reason=reason)


def _prices(price: ListedPrice, markup: Decimal) -> Prices:
    """Exact products, each rounded half up to a nano once. Raises InvalidField where a price is out of bounds."""
    with localcontext() as context:
        context.prec = _DIGITS
        sent = {
            **_nano(price.rates, markup),
            "request": _round(price.request * markup),
            "tiers": [_nano(rates, markup) | {"above_input_tokens": above} for above, rates in price.tiers],
        }
    prices = msgspec.convert(sent, Prices)
    return parse_prices(show_prices(prices), "prices")  # with the bounds that hold for an operator


def _nano(rates: Rates, markup: Decimal) -> dict[str, int]:
    return {name: _round(rate * markup) for name, rate in rates.items()}


def _round(usd: Decimal) -> int:
    return int((usd * _NANO).quantize(Decimal(1), ROUND_HALF_UP))
