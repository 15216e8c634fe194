"""A statement as a CSV table and as a page to print. Pure: the figures come from the ledger, and are only written here.

Whatever a person chose (names, memos) is escaped: in HTML as text, in CSV also against spreadsheets that would run it
as a formula.
"""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from string import Template

from app.base.clock import iso
from app.base.money import format_usd
from app.ledger.statements import Movement, Statement, UsageLine

__all__ = ["CSV_COLUMNS", "csv_text", "safe_cell", "statement_csv", "statement_html"]

# One shape for every row; what a section does not have is empty. Sections: `opening`, `credit` (one a movement,
# whatever its kind), `usage_by_model`, `usage_by_key`, `usage_by_member` (the same usage, cut again; the last where
# others draw on the wallet), `usage` (its total), `closing`.
# closing = opening + all `credit` - `usage`.
CSV_COLUMNS = (
    *("section", "date", "kind", "name", "id", "memo", "requests", "input_tokens", "output_tokens"),
    *("cached_input_tokens", "promotional", "expires_at", "amount_usd"),
)
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "＝", "＋", "－", "＠")  # noqa: RUF001 (spreadsheets fold wide ones)

_PAGE = Template((Path(__file__).parent / "statement.html").read_text())
_KINDS = {"credit": "Credit", "refund": "Refund", "adjustment": "Adjustment", "lapse": "Expired credit"}


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """RFC 4180, with a header."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return out.getvalue()


def statement_csv(statement: Statement, account: str, names: Mapping[str, str]) -> str:
    month = statement.month
    opening = {"section": "opening", "date": str(month.first), "name": safe_cell(account), "id": statement.account_id}
    rows: list[dict[str, str]] = [opening | {"amount_usd": format_usd(statement.opening_nano)}]
    rows += [_movement_row(movement) for movement in statement.movements]
    rows += [_usage_row("usage_by_model", line) | {"name": safe_cell(line.name)} for line in statement.by_model]
    rows += [
        _usage_row("usage_by_key", line) | {"name": safe_cell(names.get(line.name, "")), "id": safe_cell(line.name)}
        for line in statement.by_key
    ]
    rows += [
        _usage_row("usage_by_member", line) | {"name": safe_cell(names.get(line.name, "")), "id": line.name}
        for line in statement.by_member
    ]
    rows.append(_usage_row("usage", statement.usage))
    closing = {"section": "closing", "date": str(month.last), "name": safe_cell(account), "id": statement.account_id}
    rows.append(closing | {"amount_usd": format_usd(statement.closing_nano)})
    return csv_text(CSV_COLUMNS, ([row.get(column, "") for column in CSV_COLUMNS] for row in rows))


def safe_cell(text: str) -> str:
    """A text cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA_STARTS) else text


def _movement_row(movement: Movement) -> dict[str, str]:
    return {
        "section": "credit",
        "date": iso(movement.at_ms),
        "kind": movement.kind,
        "id": movement.entry_id,
        "memo": safe_cell(movement.memo),
        "promotional": "true" if movement.promotional else "false",
        "expires_at": "" if movement.expires_at_ms is None else iso(movement.expires_at_ms),
        "amount_usd": format_usd(movement.amount_nano),
    }


def _usage_row(section: str, line: UsageLine) -> dict[str, str]:
    return {
        "section": section,
        "requests": str(line.requests),
        "input_tokens": str(line.input_tokens),
        "output_tokens": str(line.output_tokens),
        "cached_input_tokens": str(line.cached_input_tokens),
        "amount_usd": format_usd(line.charged_nano),
    }


def statement_html(statement: Statement, account: str, names: Mapping[str, str]) -> str:
    """A whole page for A4 paper; it has no script, and loads nothing."""
    places = _places(statement)
    month = statement.month

    def named(line: UsageLine) -> str:
        return f'{escape(names.get(line.name, ""))}<br><span class="id">{escape(line.name)}</span>'

    return _PAGE.substitute(
        month=month.name,
        account=escape(account),
        account_id=escape(statement.account_id),
        provisional='<span class="tag open">provisional</span>' if statement.provisional else "",
        period=f"{month.first:%B %Y}, {month.first.day}–{month.last.day} (UTC)",  # noqa: RUF001
        opening=_money(statement.opening_nano, places),
        moved=_money(statement.moved_nano, places),
        used=_money(-statement.usage.charged_nano, places),
        closing=_money(statement.closing_nano, places),
        movements=_movements_table(statement, places),
        by_model=_usage_table("Model", statement.by_model, statement.usage, places, lambda line: escape(line.name)),
        by_key=_usage_table("Key", statement.by_key, statement.usage, places, named),
        by_member=(
            f"<h2>Usage by member</h2>\n{_usage_table('Account', statement.by_member, statement.usage, places, named)}"
            if statement.by_member
            else ""
        ),
        made_at=f"{datetime.fromtimestamp(statement.made_at_ms // 1000, UTC):%Y-%m-%d %H:%M} UTC",
        note=" The month may still change." if statement.provisional else "",
    )


def _places(statement: Statement) -> int:
    """The most decimals that an amount of the page has: all are padded to it, so that their points stand in line."""
    amounts = [statement.opening_nano, statement.closing_nano, *(each.amount_nano for each in statement.movements)]
    amounts += [line.charged_nano for line in (*statement.by_model, *statement.by_key)]
    return max(len(format_usd(nano).partition(".")[2]) for nano in amounts)


def _money(nano: int, places: int) -> str:
    """`1,234.56` with the digits below a cent set apart, and unseen zeros up to `places`."""
    whole, decimals = format_usd(abs(nano)).split(".")
    fine = f"<i>{decimals[2:]}</i>" if decimals[2:] else ""
    pad = f"<u>{'0' * (places - len(decimals))}</u>" if places > len(decimals) else ""
    return f"{'−' if nano < 0 else ''}{int(whole):,}.{decimals[:2]}{fine}{pad}"  # noqa: RUF001


def _movements_table(statement: Statement, places: int) -> str:
    if not statement.movements:
        return '<p class="none">None in this month.</p>'
    rows = [_movement_line(movement, places) for movement in statement.movements]
    return _table(
        [("Date", ""), ("", ""), ("Amount, USD", "n")],
        rows,
        f'<td colspan="2">Total</td><td class="n">{_money(statement.moved_nano, places)}</td>',
    )


def _movement_line(movement: Movement, places: int) -> str:
    tags = '<span class="tag">promotional</span>' if movement.promotional else ""
    if movement.expires_at_ms is not None:
        tags += f'<span class="tag">until {iso(movement.expires_at_ms)[:10]}</span>'
    memo = f"<br>{escape(movement.memo)}" if movement.memo else ""
    corrects = f'<br><span class="id">{escape(movement.corrects)}</span>' if movement.corrects else ""
    what = f"{escape(_KINDS.get(movement.kind, movement.kind))}{tags}<i>{memo}</i>{corrects}"
    day = iso(movement.at_ms)[:10]
    return f'<td class="day">{day}</td><td>{what}</td><td class="n">{_money(movement.amount_nano, places)}</td>'


def _usage_table(
    heading: str, lines: Sequence[UsageLine], total: UsageLine, places: int, show: Callable[[UsageLine], str]
) -> str:
    if not lines:
        return '<p class="none">No requests in this month.</p>'
    columns = [(heading, ""), *((name, "n") for name in ("Requests", "Input", "Cached", "Output", "Amount, USD"))]
    rows = [f"<td>{show(line)}</td>{_figures(line, places)}" for line in lines]
    return _table(columns, rows, f"<td>Total</td>{_figures(total, places)}")


def _figures(line: UsageLine, places: int) -> str:
    counts = (line.requests, line.input_tokens, line.cached_input_tokens, line.output_tokens)
    cells = "".join(f'<td class="n">{count:,}</td>' for count in counts)
    return f'{cells}<td class="n">{_money(line.charged_nano, places)}</td>'


def _table(columns: Sequence[tuple[str, str]], rows: Iterable[str], total: str) -> str:
    head = "".join(f'<th class="{kind}">{name}</th>' if kind else f"<th>{name}</th>" for name, kind in columns)
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>'
        f"<tfoot><tr>{total}</tr></tfoot></table></div>"
    )
