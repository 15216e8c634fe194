"""`tollgate prices import`, beside a running gateway: shown first, written whole, noticed at once."""

import json
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.gateway import ROOT
from tests.shop import Shop

Json = dict[str, Any]


def _run(shop: Shop, *words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "app.cli", "prices", "import", *words],
        cwd=ROOT,
        env=shop.gateway.process_environ,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _import(shop: Shop, listed: Json, *options: str) -> Json:
    done = _run(shop, "-", "--json", *options, stdin=json.dumps(listed))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _kinds(answer: Json) -> dict[str, str]:
    return {each["model"]: each["change"] for each in answer["models"]}


def _entry(input_usd: float, output_usd: float) -> Json:
    return {"input_cost_per_token": input_usd, "output_cost_per_token": output_usd, "max_input_tokens": 64_000}


def test_a_list_is_shown_then_written_then_nothing_is_left_to_do(shop: Shop) -> None:
    """Without --apply nothing changes; with it the next request pays the new price; again, and nothing is different."""
    model = shop.model(shop.vendor())
    fresh = f"{model}-fresh"
    listed = {model: _entry(2e-06, 4e-06), fresh: _entry(1e-06, 1e-06), "elsewhere": _entry(1e-06, 1e-06)}
    options = ("--markup", "1.5", "--create", "--models", f"{model}*")
    before = shop.operator.get(f"/models/{model}")

    shown = _import(shop, listed, *options)
    assert (shown["applied"], _kinds(shown)) == (False, {model: "changed", fresh: "new"})
    assert shown["models"][0]["then"]["input"] == "3.00"
    assert shop.operator.get(f"/models/{model}") == before

    assert _kinds(_import(shop, listed, *options, "--apply")) == {model: "changed", fresh: "new"}
    after = shop.operator.get(f"/models/{model}")
    assert (after["prices"]["input"], after["prices"]["output"]) == ("3.00", "6.00")
    assert {**after, "prices": 0, "price_version": 0} == {**before, "prices": 0, "price_version": 0}
    assert shop.operator.get(f"/models/{fresh}")["context_length"] == 64_000
    customer = shop.customer()
    assert customer.http.get(f"/v1/models/{fresh}").status_code == 200, "the workers have noticed"

    assert _kinds(_import(shop, listed, *options, "--apply")) == {model: "unchanged", fresh: "unchanged"}
    assert shop.operator.get(f"/models/{model}") == after
    assert len(shop.operator.get("/prices", model=model)["items"]) == 2


def test_ratios_bring_price_books(shop: Shop) -> None:
    """A group's ratio is its book's multiplier; the models have their own prices."""
    model, group = shop.model(shop.vendor()), f"group-{secrets.token_hex(4)}"
    listed = {
        "ModelRatio": json.dumps({model: 1.25}),
        "CompletionRatio": json.dumps({model: 4}),
        "GroupRatio": json.dumps({"default": 1, group: 0.85}),
    }
    answer = _import(shop, listed, "--apply")
    assert {each["book"]: each["change"] for each in answer["books"]} == {"default": "unchanged", group: "new"}
    assert shop.operator.get(f"/books/{group}")["multiplier"] == "0.85"
    prices = shop.operator.get(f"/models/{model}")["prices"]
    assert (prices["input"], prices["output"]) == ("2.50", "10.00")


def test_a_books_own_prices_are_imported_into_it(shop: Shop) -> None:
    """The models keep theirs; a model made for it is sold to nobody else."""
    model, book = shop.model(shop.vendor()), f"book-{secrets.token_hex(4)}"
    fresh = f"{model}-fresh"
    shop.operator.http.put(f"/books/{book}", json={"multiplier": "2"}).raise_for_status()
    before = shop.operator.get(f"/models/{model}")
    listed = {model: _entry(1e-06, 2e-06), fresh: _entry(1e-06, 2e-06)}

    _import(shop, listed, "--book", book, "--create", "--apply")

    own = shop.operator.get(f"/books/{book}")["prices"]
    assert {name: prices["output"] for name, prices in own.items()} == {model: "2.00", fresh: "2.00"}
    assert shop.operator.get(f"/models/{model}") == before
    assert shop.operator.get(f"/models/{fresh}")["prices"] is None
    assert set(_kinds(_import(shop, listed, "--book", book)).values()) == {"unchanged"}


def test_a_channels_costs_are_imported_by_upstream_name(shop: Shop) -> None:
    """What the list has beyond the channel's models is not its cost; its other costs stay."""
    model = shop.model()
    upstream = f"{model}-upstream"
    kept = {"input": "7.00", "output": "8.00", "request": "0.00"}
    channel = shop.channel(shop.vendor(), model, costs={"other": kept})

    listed = {upstream: _entry(1e-06, 2e-06), "stranger": _entry(1e-06, 2e-06)}
    answer = _import(shop, listed, "--costs-for", channel["id"], "--apply")

    assert _kinds(answer) == {upstream: "new", "stranger": "skipped"}
    costs = shop.operator.get(f"/channels/{channel['id']}")["costs"]
    assert costs == {"other": kept, upstream: {"input": "1.00", "output": "2.00", "request": "0.00"}}


@pytest.mark.parametrize(
    ("words", "stdin", "said"),
    [
        (("/nowhere/prices.json",), "", "file"),
        (("-",), "{", "JSON"),
        (("-",), '{"a": 1}', "LiteLLM"),
        (("-", "--markup", "ten"), "{}", "markup"),
        (("-", "--book", "nowhere"), json.dumps({"m": _entry(1, 1)}), "nowhere"),
        (("-", "--costs-for", "nowhere"), json.dumps({"m": _entry(1, 1)}), "nowhere"),
        (("-", "--costs-for", "chn_1", "--markup", "1.3"), "{}", "--markup"),
    ],
)
def test_what_can_not_be_done_is_said_in_a_line(shop: Shop, words: tuple[str, ...], stdin: str, said: str) -> None:
    """Exit 1, and no traceback."""
    done = _run(shop, *words, stdin=stdin)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr and len(done.stderr.splitlines()) == 1


def test_the_difference_is_shown_class_by_class(shop: Shop, tmp_path: Path) -> None:
    """For people: what it costs now and then, and why the rest is left out."""
    model = shop.model(shop.vendor())
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({model: _entry(3e-06, 1e-05), f"{model}-other": {"mode": "rerank", **_entry(1, 1)}}))

    done = _run(shop, str(path), "--create")

    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if "│" in line]
    assert rows == [[model, "changed", "input", "2.50", "3.00"], ["", "", "cached_input", "1.25", "—"]]
    assert "0 new, 1 changed, 0 unchanged, 1 skipped." in done.stdout
    assert "rerank" in done.stdout and "--apply" in done.stdout
