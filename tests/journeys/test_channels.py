"""Channels, as operators set them up: credentials, shaping, vendor limits, drains; and what vendors get of it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.behaviours import Gate, answers
from tests.certificates import Authority
from tests.operator_api import Json, assert_problem
from tests.shop import SECRET, Shop
from tests.upstreams import Street, Vendor

CHANNEL = {
    "name": "c",
    "provider": "openai",
    "base_url": "http://127.0.0.1:9/v1",
    "credentials": ["sk-one-0123456789", "sk-two-0123456789"],
    "models": {"public": "upstream"},
}


def _made(shop: Shop, **fields: Any) -> Json:
    return shop.operator.post("/channels", CHANNEL | {"enabled": False} | fields)


def _change(shop: Shop, channel: Json, **fields: Any) -> Json:
    return shop.operator.patch(f"/channels/{channel['id']}", fields)


def _sold(shop: Shop, vendor: Vendor, **channel_fields: Any) -> tuple[str, Json]:
    """A model on sale, and its one channel."""
    model = shop.model()
    return model, shop.channel(vendor, model, **channel_fields)


def test_credentials_are_counted_and_listed_without_their_secrets(shop: Shop) -> None:
    channel = _made(shop, credentials=["sk-one-0123456789", {"secret": "short", "name": "b", "weight": 3}])
    assert channel["credentials"] == 2
    first, second = channel["credential_list"]
    assert first["id"].startswith("crd_")
    assert (first["hint"], first["weight"], first["enabled"]) == ("…6789", 1, True)
    assert (second["name"], second["hint"], second["weight"]) == ("b", "…", 3)
    assert second["limits"] == {"rpm": None, "tpm": None, "concurrency": None}
    assert "short" not in str(channel)


def test_a_list_replaces_the_list_and_what_stays_keeps_its_id(shop: Shop) -> None:
    """By its id, or by its secret; fields that are left out stay as well."""
    channel = _made(shop)
    one, two = channel["credential_list"]

    changed = _change(
        shop, channel, credentials=[{"id": two["id"], "weight": 5, "limits": {"rpm": 9}}, "sk-three-0123456789"]
    )
    kept, new = changed["credential_list"]
    assert (kept["id"], kept["hint"], kept["weight"], kept["limits"]["rpm"]) == (two["id"], "…6789", 5, 9)
    assert new["id"] not in (one["id"], two["id"])

    same = _change(shop, channel, credentials=["sk-two-0123456789", {"id": new["id"], "secret": "sk-four-9876543210"}])
    assert same["credential_list"][0] == kept
    assert (same["credential_list"][1]["id"], same["credential_list"][1]["hint"]) == (new["id"], "…3210")

    assert _change(shop, channel, weight=2)["credential_list"] == same["credential_list"]
    assert _change(shop, channel, credentials=[])["credentials"] == 0


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("credentials", [{"id": "crd_nobody"}], "credentials[0].id"),
        ("credentials", [{"weight": 1}], "credentials[0].secret"),
        ("credentials", ["a", "b", "a"], "credentials[2]"),
        ("credentials", ["a", {"secret": "b", "weight": 0}], "credentials[1].weight"),
        ("credentials", ["line\nbreak"], "credentials[0].secret"),
        ("credentials", ["ключ"], "credentials[0].secret"),
        ("credentials", [""], "credentials[0]"),
        ("credentials", [{"secret": "a", "limits": {"rps": 1}}], "credentials[0].limits.rps"),
        ("limits", {"rpm": -1}, "limits.rpm"),
        ("test_every_s", 1, "test_every_s"),
        ("base_url", "http://host:99999/v1", "base_url"),
        ("base_url", "http://[::1/v1", "base_url"),
        ("shaping", {"header": {}}, "shaping.header"),
        ("shaping", {"headers": {"set": {"Host": "x"}}}, 'shaping.headers.set["Host"]'),
        ("shaping", {"headers": {"default": {"Content-Length": "1"}}}, 'shaping.headers.default["Content-Length"]'),
        ("shaping", {"headers": {"drop": ["Transfer-Encoding"]}}, 'shaping.headers.drop["Transfer-Encoding"]'),
        ("shaping", {"headers": {"set": {"Authorization": "x"}}}, 'shaping.headers.set["authorization"]'),
        ("shaping", {"headers": {"set": {"a b": "x"}}}, 'shaping.headers.set["a b"]'),
        ("shaping", {"headers": {"set": {"x-a": "a\r\nx-b: c"}}}, 'shaping.headers.set["x-a"]'),
        ("shaping", {"headers": {"set": {"x-a": "1", "X-A": "2"}}}, 'shaping.headers.set["X-A"]'),
        ("shaping", {"headers": {"set": {"x-a": "***"}}}, 'shaping.headers.set["x-a"]'),
        ("shaping", {"params": {"set": {"a[": 1}}}, 'shaping.params.set["a["]'),
        ("shaping", {"params": {"drop": ["$..a"]}}, 'shaping.params.drop["$..a"]'),
        ("shaping", {"params": {"drop": ["$[0]"]}}, 'shaping.params.drop["$[0]"]'),
        ("shaping", {"params": {"set": {"$.model": "x"}}}, 'shaping.params.set["$.model"]'),
        ("shaping", {"params": {"set": {"n": 5}}}, 'shaping.params.set["n"]'),
        ("shaping", {"params": {"drop": ["messages"]}}, 'shaping.params.drop["messages"]'),
        ("shaping", {"organization": "a\nb"}, "shaping.organization"),
        ("shaping", {"proxy": "ftp://host"}, "shaping.proxy"),
        ("shaping", {"proxy": "http://u:hush@host:99999"}, "shaping.proxy"),
        ("shaping", {"proxy": "http://u:***@host"}, "shaping.proxy"),
        ("shaping", {"tls": {"ca_pem": "junk"}}, "shaping.tls.ca_pem"),
        ("shaping", {"tls": {"identity_pem": Authority().ca_pem}}, "shaping.tls.identity_pem"),
        ("shaping", {"tls": {"min_version": "1.1"}}, "shaping.tls.min_version"),
        ("shaping", {"http2": "yes"}, "shaping.http2"),
    ],
)
def test_what_a_channel_cannot_be_is_refused_by_name(shop: Shop, field: str, value: Any, param: str) -> None:
    answer = shop.operator.http.post("/channels", json=CHANNEL | {field: value})
    assert assert_problem(answer, 400)["param"] == param, answer.text
    assert "hush" not in answer.text


def test_shaping_is_shown_without_what_may_be_secret(shop: Shop) -> None:
    """And can be sent back as it was shown; each field of it changes alone."""
    authority = Authority()
    channel = _made(
        shop,
        shaping={
            "headers": {"set": {"X-Team": "hush-1"}, "default": {"x-more": "hush-2"}, "drop": ["X-Less"]},
            "params": {"set": {"$.temperature": 0}, "drop": ["user"]},
            "organization": "org-1",
            "proxy": "http://gateway:hush-3@127.0.0.1:3128",
            "tls": {"ca_pem": authority.ca_pem, "identity_pem": authority.issue("gateway"), "min_version": "1.3"},
        },
    )
    shown = channel["shaping"]
    assert shown == {
        "headers": {"set": {"x-team": "***"}, "default": {"x-more": "***"}, "drop": ["x-less"]},
        "params": {"set": {"$.temperature": 0}, "default": {}, "drop": ["user"]},
        "organization": "org-1",
        "project": None,
        "proxy": "http://gateway:***@127.0.0.1:3128",
        "tls": {"verify": True, "ca_pem": "***", "identity_pem": "***", "min_version": "1.3"},
        "http2": False,
    }
    assert _change(shop, channel, shaping=shown)["shaping"] == shown
    assert _change(shop, channel, shaping={"organization": None})["shaping"] == shown | {"organization": None}
    assert _change(shop, channel, weight=2)["shaping"] == shown | {"organization": None}
    cleared = _change(shop, channel, shaping=None)["shaping"]
    assert (cleared["headers"]["set"], cleared["proxy"], cleared["tls"]["ca_pem"]) == ({}, None, None)


def test_credentials_may_be_an_operators_own_header(shop: Shop) -> None:
    """A vendor with a scheme of its own: the channel has no credentials then, and cannot get any beside it."""
    shaping = {"headers": {"set": {"Authorization": "Basic aHVzaA=="}}}
    channel = _made(shop, credentials=[], shaping=shaping)
    answer = shop.operator.http.patch(f"/channels/{channel['id']}", json={"credentials": ["a"]})
    assert assert_problem(answer, 400)["param"] == 'shaping.headers.set["authorization"]'


def test_a_vendor_gets_what_the_channel_makes_of_a_request(shop: Shop) -> None:
    vendor = shop.vendor()
    model, _ = _sold(
        shop,
        vendor,
        shaping={
            "organization": "org-1",
            "headers": {"set": {"X-Team": "blue"}, "default": {"x-team": "red", "x-region": "eu"}},
            "params": {
                "set": {"safety.level": "low", "messages[*].name": "customer"},
                "default": {"temperature": 0.5, "top_p": 0.9},
                "drop": ["$.user"],
            },
        },
    )
    customer = shop.customer()
    assert customer.chat(model, temperature=1.5, user="alice").status_code == 200
    with customer.stream(model) as stream:
        stream.read()
    assert stream.status_code == 200

    for request in vendor.requests:
        headers, fields = request.headers, request.json
        assert (headers["x-team"], headers["x-region"], headers["openai-organization"]) == ("blue", "eu", "org-1")
        assert headers["authorization"].startswith(f"Bearer {SECRET}")
        assert fields["model"] == f"{model}-upstream"
        assert fields["messages"] == [{"role": "user", "content": "Say hello.", "name": "customer"}]
        assert (fields["safety"], fields["top_p"]) == ({"level": "low"}, 0.9)
        assert "user" not in fields
    assert [request.json["temperature"] for request in vendor.requests] == [1.5, 0.5]


@pytest.fixture
def guarded(street: Street, tmp_path: Path) -> Iterator[tuple[Vendor, Authority]]:
    """A vendor with a certificate of an authority that nobody knows."""
    authority = Authority()
    vendor = street.open(answers(), authority.server(tmp_path))
    yield vendor, authority
    street.shut(vendor)


def test_a_vendor_with_an_authority_of_its_own(shop: Shop, guarded: tuple[Vendor, Authority]) -> None:
    vendor, authority = guarded
    model, channel = _sold(shop, vendor)
    customer = shop.customer()
    tested = shop.operator.post(f"/channels/{channel['id']}/test", {}, 200)
    assert (tested["ok"], tested["error"]) == (False, "tls")

    _change(shop, channel, shaping={"tls": {"ca_pem": authority.ca_pem}})
    assert shop.operator.post(f"/channels/{channel['id']}/test", {}, 200)["ok"] is True
    assert customer.chat(model).status_code == 200


def test_a_stream_goes_on_while_its_channel_is_changed(shop: Shop) -> None:
    """Whatever changes: rules, credentials, the way to the vendor; the next request finds the new channel."""
    gate = Gate()
    vendor = shop.vendor().then(answers(after=2, then=gate))
    model, channel = _sold(shop, vendor)
    customer = shop.customer()
    with customer.stream(model) as stream:
        lines = stream.iter_lines()
        assert "data:" in next(lines)
        for change in (
            {"shaping": {"headers": {"set": {"x-team": "blue"}}}},
            {"credentials": ["sk-new-0123456789"]},
            {"timeouts": {"connect_ms": 700}},
            {"shaping": {"tls": {"verify": False}}},
            {"weight": 7},
        ):
            _change(shop, channel, **change)
            assert customer.chat(model).status_code == 200
        gate.open()
        rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert not any("error" in line for line in rest)
    last = vendor.requests[-1].headers
    assert (last["x-team"], last["authorization"]) == ("blue", "Bearer sk-new-0123456789")


def test_a_drain_and_its_end(shop: Shop) -> None:
    channel = _made(shop, enabled=True, models={"nobody-asks-for-it": "x"})
    drained = shop.operator.post(f"/channels/{channel['id']}/drain", {}, 200)
    assert drained["draining"] is True
    back = shop.operator.post(f"/channels/{channel['id']}/resume", {}, 200)
    assert (back["draining"], back["enabled"]) == (False, True)
    assert_problem(shop.operator.http.post("/channels/chn_nobody/drain"), 404)


def test_a_models_routing_is_set_and_shown(shop: Shop) -> None:
    model = shop.model()
    plain = shop.operator.get(f"/models/{model}")["routing"]
    assert (plain["strategy"], plain["sticky"], plain["attempts"], plain["context_fallbacks"]) == (
        "weighted",
        "auto",
        None,
        [],
    )
    routing = {"strategy": "latency", "attempts": 3, "deadline_ms": 5000, "hedge_ms": 800, "retries": 2}
    shown = shop.operator.put_model(model, routing=routing | {"context_fallbacks": ["longer"]})["routing"]
    assert shown == plain | routing | {"context_fallbacks": ["longer"]}


@pytest.mark.parametrize(
    ("routing", "param"),
    [
        ({"strategy": "luck"}, "routing.strategy"),
        ({"sticky": True}, "routing.sticky"),
        ({"attempts": 0}, "routing.attempts"),
        ({"attempts": 101}, "routing.attempts"),
        ({"deadline_ms": 0}, "routing.deadline_ms"),
        ({"hedge_ms": "soon"}, "routing.hedge_ms"),
        ({"retries": 6}, "routing.retries"),
        ({"context_fallbacks": [7]}, "routing.context_fallbacks[0]"),
        ({"speed": 1}, "routing.speed"),
    ],
)
def test_routing_that_cannot_be_is_refused_by_name(shop: Shop, routing: Json, param: str) -> None:
    answer = shop.operator.http.put("/models/bad-model", json={"routing": routing})
    assert assert_problem(answer, 400)["param"] == param


def test_two_first_puts_of_a_model_at_once_both_get_in(shop: Shop) -> None:
    with ThreadPoolExecutor(8) as pool:
        for round_ in range(4):
            name = f"{shop.model()}-{round_}"
            answers_ = pool.map(
                lambda price, name=name: (
                    shop.operator.http.put(
                        f"/models/{name}", json={"prices": {"input": str(price), "output": "1"}}
                    ).status_code
                ),
                range(1, 9),
            )
            assert sorted(answers_) == [200] * 7 + [201]
