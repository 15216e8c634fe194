"""Lines: what every call over a credential has in common, made once and kept until something of it changes."""

from typing import Any

import msgspec
import pytest

from app.catalog.records import Channel, FieldRules, HeaderRules, Shaping, Timeouts, Tls, VendorLimits
from app.proxy.records import Pick
from app.proxy.relay.line import Lines, line_of
from app.proxy.relay.sandbox import SandboxTransport
from app.proxy.relay.upstream import Call, Route
from app.proxy.relay.vendors import VendorTransport
from tests.proxy.makers import credential, make_channel, order

CONTENT = {"content-type": "application/json"}
BEARER = {"authorization": "Bearer sk-vendor-secret"}


def _headers(channel: Channel) -> dict[str, str]:
    return dict(line_of(channel, channel.ways[0]).route.headers)


def _rules(**rules: Any) -> Shaping:
    return Shaping(headers=HeaderRules(**rules))


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        pytest.param({}, CONTENT | BEARER, id="the credential, as the vendor wants it"),
        pytest.param({"credentials": ()}, CONTENT, id="none where it wants none"),
        pytest.param(
            {"shaping": Shaping(organization="org-1", project="proj-1")},
            CONTENT | BEARER | {"openai-organization": "org-1", "openai-project": "proj-1"},
            id="organisation and project",
        ),
        pytest.param({"provider": "groq", "shaping": Shaping(organization="o")}, CONTENT | BEARER, id="groq has none"),
        pytest.param(
            {"shaping": _rules(set={"x-team": "a"}, default={"x-team": "b", "x-more": "c"})},
            CONTENT | BEARER | {"x-team": "a", "x-more": "c"},
            id="set stands above default",
        ),
        pytest.param(
            {
                "shaping": Shaping(
                    organization="org-1", headers=HeaderRules(default={"openai-organization": "org-2"}, drop=("x-a",))
                )
            },
            CONTENT | BEARER | {"openai-organization": "org-1"},
            id="a default yields to what is there",
        ),
        pytest.param({"shaping": _rules(set={"x-a": "1"}, drop=("x-a",))}, CONTENT | BEARER, id="drop is last"),
    ],
)
def test_headers(fields: dict[str, Any], headers: dict[str, str]) -> None:
    assert _headers(make_channel(**fields)) == headers


def test_each_credential_has_a_line_of_its_own() -> None:
    lines, channel = _lines(), make_channel(credentials=(credential("one", "crd_1"), credential("two", "crd_2")))
    first, second = (_call(lines, channel, at) for at in (0, 1))
    assert [call.route.headers["authorization"] for call in (first, second)] == ["Bearer one", "Bearer two"]
    assert _call(lines, channel, 0).route is first.route


def test_a_channel_without_credentials_has_a_line() -> None:
    assert "authorization" not in _call(_lines(), make_channel(credentials=())).route.headers


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="read anew"),
        pytest.param({"weight": 9, "priority": 3, "name": "other"}, id="weight"),
        pytest.param({"models": {"small": "other"}}, id="models"),
        pytest.param({"limits": VendorLimits(rpm=1)}, id="limits"),
        pytest.param({"shaping": Shaping(params=FieldRules(set={"a": 1}))}, id="rules for the body"),
        pytest.param({"credentials": (credential("sk-vendor-secret"), credential("b", "crd_2"))}, id="one more"),
    ],
)
def test_a_change_of_the_catalogue_keeps_the_way_to_the_vendor(fields: dict[str, Any]) -> None:
    """And so the connections that are open along it."""
    lines = _lines()
    before = _route(lines, make_channel())
    assert _route(lines, make_channel(**fields)) is before


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"credentials": (credential("sk-other"),)}, id="secret"),
        pytest.param({"base_url": "https://other.example/v1"}, id="address"),
        pytest.param({"timeouts": Timeouts(idle_ms=1)}, id="timeouts"),
        pytest.param({"shaping": _rules(set={"x-a": "1"})}, id="headers"),
        pytest.param({"shaping": Shaping(proxy="http://proxy.example:3128")}, id="proxy"),
        pytest.param({"shaping": Shaping(tls=Tls(verify=False))}, id="tls"),
    ],
)
def test_what_changes_the_way_to_the_vendor_makes_it_anew(fields: dict[str, Any]) -> None:
    lines = _lines()
    before = _route(lines, make_channel())
    assert _route(lines, make_channel(**fields)) is not before


def test_a_body_is_written_as_the_channel_has_it_now() -> None:
    lines = _lines()
    _call(lines, make_channel())
    changed = make_channel(models={"small": "newer"}, shaping=Shaping(params=FieldRules(set={"top_k": 5})))
    fields = msgspec.json.decode(_call(lines, changed).body)
    assert (fields["model"], fields["top_k"]) == ("newer", 5)


def test_fields_that_a_vendor_refuses_are_left_out_and_the_bound_kept() -> None:
    """Unless the operator sets them: the vendor may have learnt."""
    sent = {"stream": True, "stream_options": {"include_usage": True}, "max_completion_tokens": 9, "store": False}
    plain = make_channel(provider="mistral")
    told = make_channel(provider="mistral", shaping=Shaping(params=FieldRules(set={"store": True})))
    for channel, extra in ((plain, {}), (told, {"store": True})):
        written = msgspec.json.decode(_lines().call(order(**sent), Pick(channel, channel.ways[0]))[1].body)
        del written["messages"]
        assert written == {"model": "vendor-small", "stream": True, "max_tokens": 9, **extra}


def test_nothing_of_a_channel_and_its_line_shows_a_secret() -> None:
    shaping = Shaping(
        headers=HeaderRules(set={"x-a": "hush"}), proxy="http://u:hush@proxy.example", tls=Tls(identity_pem="hush")
    )
    channel = make_channel(credentials=(credential("hush"),), shaping=shaping)
    assert "hush" not in f"{channel!r} {shaping!r} {line_of(channel, channel.ways[0])!r} {_call(_lines(), channel)!r}"


def _lines() -> Lines:
    return Lines(VendorTransport(), SandboxTransport())


def _call(lines: Lines, channel: Channel, at: int = 0) -> Call:
    return lines.call(order(), Pick(channel, channel.ways[at]))[1]


def _route(lines: Lines, channel: Channel) -> Route:
    return _call(lines, channel).route
