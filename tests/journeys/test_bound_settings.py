"""The settings that bound what a request can cost: operators set them, and they are shown back."""

import secrets
from typing import Any

import pytest

from tests.operator_api import Json, assert_problem
from tests.shop import PRICES, Shop

CHANNEL = {"name": "c", "provider": "openai", "credentials": [], "models": {"public": "upstream"}, "enabled": False}
UNDECLARED = {"image": None, "audio": None, "file": None, "video": None}


@pytest.mark.parametrize(
    "media",
    [
        pytest.param({"image": {"low": 85, "high": 1445}}, id="an image by its detail"),
        pytest.param({"image": 2000, "audio": 900, "file": 50_000, "video": 300_000}, id="each kind"),
    ],
)
def test_a_model_declares_what_a_part_can_cost(shop: Shop, media: Json) -> None:
    """What is not declared is null; a model that is put without the field has nothing declared."""
    name = f"model-{secrets.token_hex(5)}"
    assert shop.operator.put_model(name, prices=PRICES, media=media)["media"] == UNDECLARED | media
    assert shop.operator.get(f"/models/{name}")["media"] == UNDECLARED | media
    assert shop.operator.put_model(name, prices=PRICES)["media"] == UNDECLARED


@pytest.mark.parametrize(
    ("media", "param"),
    [
        ({"picture": 5}, "media.picture"),
        ({"image": -1}, "media.image"),
        ({"image": {"low": 5}}, "media.image.high"),
        ({"image": {"low": 5, "high": 6, "auto": 7}}, "media.image.auto"),
        ({"video": "long"}, "media.video"),
    ],
)
def test_a_bound_that_is_none_is_refused_by_name(shop: Shop, media: Json, param: str) -> None:
    answer = shop.operator.http.put("/models/never", json={"media": media})
    assert assert_problem(answer, 400)["param"] == param


def test_a_channel_says_what_its_vendor_reads_and_what_is_passed_on(shop: Shop) -> None:
    """Null puts the provider's own back; the map is replaced whole."""
    channel = shop.operator.post("/channels", CHANNEL | {"limit_field": "both"})
    assert (channel["limit_field"], channel["priced_fields"]) == ("both", {})

    def changed(**fields: Any) -> tuple[str | None, Json]:
        shown = shop.operator.patch(f"/channels/{channel['id']}", fields)
        return shown["limit_field"], shown["priced_fields"]

    priced = {"service_tier": "pass", "plugins": "drop"}
    assert changed(priced_fields=priced) == ("both", priced)
    assert changed(weight=2) == ("both", priced)
    assert changed(limit_field=None, priced_fields={"store": "refuse"}) == (None, {"store": "refuse"})
    assert changed(priced_fields=None) == (None, {})
    events = shop.operator.get("/channel-events", channel_id=channel["id"])["items"]
    assert "limit_field, priced_fields" in {event["reason"] for event in events}


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("limit_field", "max_output", "limit_field"),
        ("priced_fields", {"temperature": "pass"}, "priced_fields.temperature"),
        ("priced_fields", {"Service_Tier": "pass"}, "priced_fields.Service_Tier"),
        ("priced_fields", {"service_tier": "charge"}, "priced_fields[...]"),
    ],
)
def test_what_a_channel_cannot_say_is_refused_by_name(shop: Shop, field: str, value: Any, param: str) -> None:
    answer = shop.operator.http.post("/channels", json=CHANNEL | {field: value})
    assert assert_problem(answer, 400)["param"] == param


def test_apply_sets_them_and_finds_nothing_left_to_do(shop: Shop) -> None:
    """Fields that a declaration does not mention stay as they are."""
    tag = secrets.token_hex(5)
    model = {"prices": PRICES, "media": {"image": {"low": 85, "high": 1445}, "file": 9000}}
    channel = {**CHANNEL, "limit_field": "max_tokens", "priced_fields": {"service_tier": "pass"}}
    del channel["name"]
    declared = {"models": {f"m-{tag}": model}, "channels": {f"c-{tag}": channel}}

    first, second = (shop.operator.post("/apply", declared, 200) for _ in range(2))

    told = {each["field"]: each["then"] for change in first["changes"] for each in change["fields"]}
    expected = {"media.image.low": 85, "media.file": 9000, "limit_field": "max_tokens"}
    assert told.items() >= (expected | {"priced_fields.service_tier": "pass"}).items()
    assert {change["does"] for change in second["changes"]} == {"unchanged"}
    shop.operator.post("/apply", {"models": {f"m-{tag}": {"description": "x"}}}, 200)
    assert shop.operator.get(f"/models/m-{tag}")["media"]["file"] == 9000
