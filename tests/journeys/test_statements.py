"""A customer's month on paper: the same figures as JSON, CSV and a page to print, over HTTP and at the command line."""

import csv
import io
import json
import subprocess
import sys
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.gateway import ROOT
from tests.operator_api import assert_problem
from tests.shop import Customer, Shop

_FORMULA = '=HYPERLINK("http://example.com","pay")'
_MARKUP = "<script>alert(1)</script>"


def _used(shop: Shop, **key_options: Any) -> tuple[Customer, str]:
    """A customer with two requests on their account, and the month of the second."""
    customer = shop.customer(**key_options)
    model = shop.model(shop.vendor())
    for _ in range(2):
        customer.chat(model)
    receipts = shop.operator.wait_receipts(2, account_id=customer.account_id)
    return customer, receipts[0]["created_at"][:7]


def _path(customer: Customer, month: str) -> str:
    return f"/accounts/{customer.account_id}/statements/{month}"


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def _of(rows: list[dict[str, str]], section: str) -> Decimal:
    return sum((Decimal(row["amount_usd"]) for row in rows if row["section"] == section), Decimal(0))


def test_a_statement_adds_up_to_the_balance(shop: Shop) -> None:
    """Closing = opening + credits - usage, and is what the wallet has now."""
    customer, month = _used(shop)
    shop.operator.post(f"/accounts/{customer.account_id}/adjustments", {"amount": "0.25", "memo": "sorry"})

    statement = shop.operator.get(_path(customer, month))

    assert (statement["account_id"], statement["month"]) == (customer.account_id, month)
    opening, closing = Decimal(statement["opening_balance"]), Decimal(statement["closing_balance"])
    usage = sum(Decimal(line["amount"]) for line in statement["usage_by_model"])
    assert sum(Decimal(line["amount"]) for line in statement["usage_by_key"]) == usage
    assert closing == opening + sum(Decimal(each["amount"]) for each in statement["credits"]) - usage
    assert closing == shop.operator.balance(customer.account_id)
    assert statement["totals"]["requests"] == 2
    assert [line["name"] for line in statement["usage_by_key"]] == ["test"]
    assert [each["kind"] for each in statement["credits"]] == ["credit", "adjustment"]


def test_the_forms_say_the_same(shop: Shop) -> None:
    """By `format`, or by what the caller accepts."""
    customer, month = _used(shop)
    path = _path(customer, month)
    statement = shop.operator.get(path)

    table = shop.operator.http.get(path, headers={"Accept": "text/csv"})
    page = shop.operator.http.get(path, headers={"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"})

    assert table.headers["content-type"].startswith("text/csv")
    rows = _rows(table.text)
    assert _of(rows, "opening") + _of(rows, "credit") - _of(rows, "usage") == _of(rows, "closing")
    assert _of(rows, "usage_by_model") == _of(rows, "usage_by_key") == _of(rows, "usage")
    assert _of(rows, "closing") == Decimal(statement["closing_balance"])
    assert page.headers["content-type"].startswith("text/html")
    assert statement["usage_by_model"][0]["model"] in page.text
    assert shop.operator.http.get(path, params={"format": "csv"}).text == table.text
    assert "text/html" in shop.operator.http.get(path, params={"format": "html"}).headers["content-type"]


class _Page(HTMLParser):
    """What a browser would find: the tags, and whatever they would load or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.loads: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [name for name, _ in attrs if name in ("src", "href", "srcset") or name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_what_people_wrote_stays_text(shop: Shop) -> None:
    """Names and memos run neither in a browser nor in a spreadsheet."""
    customer, month = _used(shop, name=_FORMULA)
    shop.operator.patch(f"/accounts/{customer.account_id}", {"name": _MARKUP})
    for memo in (_MARKUP, "@SUM(A1)", " +1", 'a,"b"\r\nc'):
        shop.operator.post(f"/accounts/{customer.account_id}/credits", {"amount": "1.00", "memo": memo})
    path = _path(customer, month)

    answer = shop.operator.http.get(path, params={"format": "html"})
    page = _Page(answer.text)
    rows = _rows(shop.operator.http.get(path, params={"format": "csv"}).text)

    assert "script" not in page.tags and page.loads == []
    assert page.texts.count(_MARKUP) >= 2
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    memos = [row["memo"] for row in rows if row["section"] == "credit"]
    assert memos == ["test", _MARKUP, "'@SUM(A1)", "' +1", 'a,"b"\r\nc']
    assert [row["name"] for row in rows if row["section"] == "usage_by_key"] == [f"'{_FORMULA}"]


@pytest.mark.parametrize("form", ["json", "csv", "html"])
def test_the_command_line_prints_the_same(shop: Shop, form: str) -> None:
    """All but the moment it was made."""
    customer, month = _used(shop)
    command = [sys.executable, "-m", "app.cli", "statement", customer.account_id, month, "--format", form]
    done = subprocess.run(
        command, cwd=ROOT, env=shop.gateway.process_environ, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    shown = shop.operator.http.get(_path(customer, month), params={"format": form}).text
    printed = done.stdout.decode()
    if form == "json":
        told, asked = json.loads(printed), json.loads(shown)
        assert told.pop("made_at") and asked.pop("made_at")
        assert told == asked
    else:
        kept = [line for line in printed.splitlines() if "made on" not in line]
        assert kept == [line for line in shown.splitlines() if "made on" not in line]


def test_a_statement_of_nobody_or_of_no_month_is_refused(shop: Shop) -> None:
    customer = shop.customer()
    assert_problem(shop.operator.http.get("/accounts/acc_nobody/statements/2026-01"), 404)
    assert assert_problem(shop.operator.http.get(_path(customer, "2026-13")), 400)["param"] == "month"
    answer = shop.operator.http.get(_path(customer, "2026-01"), params={"format": "pdf"})
    assert assert_problem(answer, 400)["param"] == "format"
    command = [sys.executable, "-m", "app.cli", "statement", "acc_nobody", "2026-01"]
    done = subprocess.run(
        command, cwd=ROOT, env=shop.gateway.process_environ, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (1, b"")
