"""What a channel changes of a body: what its rules name, and nothing beside it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from app.catalog.records import FieldRules
from app.proxy.relay.dialects.openai_chat import write_request
from app.proxy.relay.shaping import read_rules
from tests.proxy.makers import body, order

Json = dict[str, Any]

NAMES = st.sampled_from(["a", "b", "c", "d e"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
BODIES = st.dictionaries(NAMES, VALUES, max_size=4)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda names: "$" + "".join(f"['{name}']" for name in names))


def _raw(fields: Json) -> dict[str, Raw]:
    return {name: Raw(msgspec.json.encode(value)) for name, value in fields.items()}


def _shaped(fields: Json, **rules: Any) -> Json:
    read = read_rules(FieldRules(**rules))
    raw = _raw(fields)
    if read is not None:
        read.apply(raw)
    return msgspec.json.decode(msgspec.json.encode(raw))


@pytest.mark.parametrize(
    ("sent", "rules", "shaped"),
    [
        pytest.param({"a": 1}, {"set": {"a": 2}}, {"a": 2}, id="set replaces"),
        pytest.param({}, {"set": {"a": 2}}, {"a": 2}, id="set adds"),
        pytest.param({}, {"set": {"a.b.c": 2}}, {"a": {"b": {"c": 2}}}, id="set makes the objects on its way"),
        pytest.param({"a": [1]}, {"set": {"a.b": 2}}, {"a": [1]}, id="a list has no names"),
        pytest.param({"a": None}, {"set": {"a.b": 2}}, {"a": None}, id="a null has no place"),
        pytest.param({}, {"set": {"a[0]": 2}}, {}, id="no list is made"),
        pytest.param({}, {"set": {"a.b[0]": 2}}, {}, id="nor an object on the way to one"),
        pytest.param({"a": [1, 2, 3]}, {"set": {"a[-1]": 9}}, {"a": [1, 2, 9]}, id="from behind"),
        pytest.param({"a": [{}, 1, {"n": 2}]}, {"set": {"a[*].n": 9}}, {"a": [{"n": 9}, 1, {"n": 9}]}, id="in each"),
        pytest.param({"a": {"x": 1, "y": 2}}, {"set": {"a.*": 0}}, {"a": {"x": 0, "y": 0}}, id="each of an object"),
        pytest.param({"a": 1}, {"default": {"a": 2, "b": 3}}, {"a": 1, "b": 3}, id="default adds what is missing"),
        pytest.param({"a": None}, {"default": {"a": 2}}, {"a": None}, id="a null is there"),
        pytest.param({"a": {"b": 1}}, {"default": {"a.c": 2}}, {"a": {"b": 1, "c": 2}}, id="default inside"),
        pytest.param({"a": [1]}, {"default": {"a[0]": 2, "a[1]": 2}}, {"a": [1]}, id="default adds to no list"),
        pytest.param({"a": 1, "b": 2}, {"drop": ("a", "c")}, {"b": 2}, id="drop"),
        pytest.param({"a": [1, 2, 3]}, {"drop": ("a[0]",)}, {"a": [2, 3]}, id="drop from a list"),
        pytest.param({"a": [1, 2, 3]}, {"drop": ("a[*]",)}, {"a": []}, id="drop all of a list"),
        pytest.param({"a": [{"n": 1, "m": 2}]}, {"drop": ("a[*].n",)}, {"a": [{"m": 2}]}, id="drop in each"),
        pytest.param({}, {"set": {"a": {"b": 1}, "a.c": 2}}, {"a": {"b": 1, "c": 2}}, id="a rule into what one set"),
        pytest.param({}, {"set": {"a": 1}, "default": {"a": 2}, "drop": ("a",)}, {}, id="set, default, drop"),
    ],
)
def test_rules(sent: Json, rules: Json, shaped: Json) -> None:
    assert _shaped(sent, **rules) == shaped


def test_a_rule_is_the_same_for_every_request() -> None:
    """What one body made of a value is not seen by the next."""
    rules = read_rules(FieldRules(set={"a": {"b": []}, "a.c": 1}, drop=("a.b",)))
    assert rules is not None
    for _ in range(2):
        fields = _raw({})
        rules.apply(fields)
        assert bytes(fields["a"]) == b'{"c":1}'


@given(BODIES, PATHS, VALUES)
def test_what_is_set_and_dropped_is_gone(sent: Json, path: str, value: Any) -> None:
    read = read_rules(FieldRules(drop=(path,)))
    assert read is not None
    shaped = _raw(_shaped(sent, set={path: value}, drop=(path,)))
    once = msgspec.json.encode(shaped)
    read.apply(shaped)
    assert msgspec.json.decode(msgspec.json.encode(shaped)) == msgspec.json.decode(once)


@given(BODIES, PATHS, VALUES)
def test_a_default_never_overwrites(sent: Json, path: str, value: Any) -> None:
    """All that was there is there still, at any depth."""

    def holds(before: Any, after: Any) -> bool:
        if isinstance(before, dict) and isinstance(after, dict):
            return all(name in after and holds(before[name], after[name]) for name in before)
        return bool(before == after)

    assert holds(sent, _shaped(sent, default={path: value}))


@given(BODIES, PATHS, VALUES)
def test_what_was_set_is_read_back_where_there_was_a_place(sent: Json, path: str, value: Any) -> None:
    """Setting is idempotent, and leaves the other top fields alone."""
    once = _shaped(sent, set={path: value})
    assert _shaped(once, set={path: value}) == once
    top = path.split("'")[1]
    assert {name: each for name, each in once.items() if name != top} == {
        name: each for name, each in sent.items() if name != top
    }


def test_what_no_rule_names_is_sent_byte_for_byte() -> None:
    """Odd spacing, numbers beyond a double and escapes come through, beside a rule and inside what it opens."""
    odd = b'{ "pi" : 3.14159265358979323846264338327950288, "big":123456789012345678901234567890 ,"s":"\\u00e9" }'
    fields = {"odd": Raw(odd), "a": Raw(b'{"kept": ' + odd + b', "n":1}')}
    rules = read_rules(FieldRules(set={"a.n": 2, "t": 0}))
    assert rules is not None
    rules.apply(fields)
    written = msgspec.json.encode(fields)
    assert written.count(odd) == 2


@pytest.mark.parametrize(
    ("sent", "rules", "limits"),
    [
        pytest.param({"max_tokens": 50}, {}, {"max_completion_tokens": 50}, id="renamed"),
        pytest.param({"max_tokens": 50}, {"drop": ("max_tokens",)}, {"max_completion_tokens": 50}, id="the other name"),
        pytest.param(
            {"max_tokens": 50}, {"drop": ("max_completion_tokens",)}, {"max_completion_tokens": 50}, id="never dropped"
        ),
        pytest.param(
            {"max_tokens": 50}, {"set": {"max_completion_tokens": 500}}, {"max_completion_tokens": 50}, id="never more"
        ),
        pytest.param(
            {"max_tokens": 50}, {"set": {"max_tokens": 500}}, {"max_completion_tokens": 50}, id="nor in another field"
        ),
        pytest.param(
            {"max_tokens": 50}, {"set": {"max_tokens": 5}}, {"max_completion_tokens": 5}, id="less is the operator's"
        ),
        pytest.param(
            {"max_tokens": 50}, {"set": {"max_tokens": "many"}}, {"max_completion_tokens": 50}, id="no number"
        ),
        pytest.param({"max_tokens": 50}, {"set": {"max_tokens": 0}}, {"max_completion_tokens": 50}, id="none at all"),
        pytest.param({}, {"set": {"max_tokens": 500}}, {"max_tokens": 500}, id="the customer named none"),
        pytest.param({}, {}, {}, id="none"),
    ],
)
def test_no_rule_makes_an_answer_longer_than_was_paid_for(sent: Json, rules: Json, limits: Json) -> None:
    read = read_rules(FieldRules(**rules))
    written = write_request(
        order(body(**sent)),
        "vendor-small",
        usage_in_streams=True,
        requires_max_tokens=False,
        limit_field="max_completion_tokens",
        shape=None if read is None else read.apply,
    )
    fields = msgspec.json.decode(written)
    assert {name: fields[name] for name in ("max_tokens", "max_completion_tokens") if name in fields} == limits


def test_what_the_wallet_affords_stands_above_the_rules() -> None:
    read = read_rules(FieldRules(set={"max_tokens": 500}))
    assert read is not None
    poor = msgspec.structs.replace(order(body()), imposed_limit=7)
    written = write_request(poor, "m", usage_in_streams=True, requires_max_tokens=False, shape=read.apply)
    assert msgspec.json.decode(written)["max_tokens"] == 7
