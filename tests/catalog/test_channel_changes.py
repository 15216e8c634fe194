"""What an operator's change of a channel is called: every field that changed, and no secret."""

from typing import Any

import msgspec
import pytest

from app.catalog.channel_changes import changes_between
from app.catalog.records import HeaderRules, Shaping
from tests.proxy.makers import credential, make_channel

SECRET = Shaping(proxy="http://me:secret@proxy.example", headers=HeaderRules(set={"x-key": "secret"}))

CHANGES: list[Any] = [
    pytest.param({}, {}, [], id="nothing"),
    pytest.param({}, {"weight": 3}, [("changed", "weight from 1 to 3")], id="weight"),
    pytest.param(
        {},
        {"test_every_s": 60, "models": {"small": "other"}},
        [("changed", "test_every_s from none to 60, models")],
        id="several",
    ),
    pytest.param({}, {"shaping": SECRET}, [("changed", "shaping")], id="shaping"),
    pytest.param({}, {"credentials": (credential("secret"),)}, [("changed", "credentials")], id="another secret"),
    pytest.param(
        {}, {"credentials": (credential("sk-vendor-secret", weight=2),)}, [("changed", "credentials")], id="its weight"
    ),
    pytest.param({}, {"credentials": (credential("sk-vendor-secret"),)}, [], id="the same secret again"),
    pytest.param({}, {"draining": True}, [("draining", "it takes no new requests")], id="drain"),
    pytest.param({"draining": True}, {"draining": False}, [("resumed", "it takes requests again")], id="resume"),
    pytest.param({}, {"enabled": False}, [("changed", "enabled from on to off")], id="off"),
    pytest.param(
        {"enabled": False},
        {"enabled": True},
        [("changed", "enabled from off to on"), ("resumed", "it takes requests again")],
        id="on",
    ),
    pytest.param(
        {"draining": True},
        {"draining": False, "enabled": False},
        [("changed", "enabled from on to off")],
        id="off in mid-drain",
    ),
]


@pytest.mark.parametrize(("before", "change", "told"), CHANGES)
def test_a_change_has_its_name(before: dict[str, Any], change: dict[str, Any], told: list[tuple[str, str]]) -> None:
    old = make_channel(**before)

    found = changes_between(old, msgspec.structs.replace(old, **change))

    assert found == told
    assert "secret" not in str(found)
