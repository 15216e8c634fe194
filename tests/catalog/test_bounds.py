"""What a key may hand on: never more than it may do itself."""

import ipaddress
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from app.base.errors import InvalidField
from app.base.limits import NO_LIMITS, Budget, Limits
from app.base.names import Names
from app.base.scopes import SCOPES
from app.catalog.bounds import narrowed
from app.catalog.records import Key
from tests.proxy.makers import make_key

Json = dict[str, Any]
_LIMITS = Limits.__struct_fields__

patterns = st.text("ab*", min_size=1, max_size=4)
cidrs = st.builds(
    lambda address, length: str(ipaddress.ip_network((address, length), strict=False)),
    st.integers(0, 2**32 - 1),
    st.integers(0, 32),
)
figures = st.integers(0, 5)
budgets = st.lists(
    st.builds(
        Budget,
        st.sampled_from(["usd", "tokens"]),
        st.integers(1, 5),
        st.sampled_from(["day", "month"]),
    ),
    max_size=3,
    unique_by=lambda budget: (budget.unit, budget.window),
)


def _maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


issuers = st.builds(
    make_key,
    models=_maybe(st.lists(patterns, max_size=3).map(tuple)),
    allowed_cidrs=_maybe(st.lists(cidrs, max_size=2).map(tuple)),
    scopes=_maybe(st.lists(st.sampled_from(SCOPES), max_size=3).map(tuple)),
    expires_at_ms=_maybe(figures),
    limits=st.builds(Limits, *(figures for _ in _LIMITS)),
    budgets=budgets.map(tuple),
)
wishes = st.fixed_dictionaries(
    {"name": st.just("wish")},
    optional={
        "models": _maybe(st.lists(patterns, max_size=3)),
        "allowed_cidrs": _maybe(st.lists(cidrs, max_size=2)),
        "scopes": _maybe(st.lists(st.sampled_from(SCOPES), max_size=3)),
        "expires_at_ms": _maybe(figures),
        **dict.fromkeys(_LIMITS, figures),
        "budgets": budgets.map(lambda found: [{"unit": b.unit, "amount": b.amount, "window": b.window} for b in found]),
    },
)


@given(issuers, wishes, st.text("ab", max_size=4), st.ip_addresses(v=4))
@example(make_key(models=("a*",)), {"name": "wish"}, "b", ipaddress.IPv4Address(0))
def test_nothing_is_handed_on_that_the_issuer_lacks(
    issuer: Key, wish: Json, model: str, address: ipaddress.IPv4Address
) -> None:
    """Whatever is wished for: it is refused, or within the issuer's own bounds."""
    try:
        given = narrowed(issuer, wish)
    except InvalidField as refusal:
        assert refusal.param
        return
    if issuer.models is not None and (given["models"] is None or model in Names(given["models"])):
        assert given["models"] is not None and model in Names(issuer.models)
    if issuer.allowed_cidrs is not None:
        assert given["allowed_cidrs"] is not None
        if any(address in ipaddress.ip_network(each) for each in given["allowed_cidrs"]):
            assert any(address in ipaddress.ip_network(each) for each in issuer.allowed_cidrs)
    if issuer.scopes is not None:
        assert set(given["scopes"]) <= set(issuer.scopes)
    if issuer.expires_at_ms is not None:
        assert given["expires_at_ms"] is not None and given["expires_at_ms"] <= issuer.expires_at_ms
    for name in _LIMITS:
        most = getattr(issuer.limits, name)
        assert not most or 0 < given[name] <= most
    amounts = {(each["unit"], each["window"]): each["amount"] for each in given["budgets"]}
    for budget in issuer.budgets:
        assert 0 < amounts[budget.unit, budget.window] <= budget.amount
    assert given["issued_by"] == issuer.id


@given(issuers)
def test_a_wish_for_nothing_in_particular_is_all_that_the_issuer_has(issuer: Key) -> None:
    """It is never refused."""
    given = narrowed(issuer, {"name": "wish"})
    assert given["models"] == (None if issuer.models is None else list(issuer.models))
    assert {name: given[name] for name in _LIMITS} == {name: getattr(issuer.limits, name) for name in _LIMITS}


@given(wishes)
def test_an_issuer_without_bounds_refuses_nothing(wish: Json) -> None:
    """What was wished for is what is given."""
    assume(wish)
    given = narrowed(make_key(limits=NO_LIMITS), wish)
    assert {name: given[name] for name in wish} == wish


@pytest.mark.parametrize(
    ("own", "wish", "field"),
    [
        ({"models": ("small", "gpt-4*")}, {"models": ["small", "gpt-*"]}, "models[1]"),
        ({"models": ()}, {"models": ["small"]}, "models[0]"),
        ({"allowed_cidrs": ("10.0.0.0/8",)}, {"allowed_cidrs": ["10.1.0.0/16", "11.0.0.0/8"]}, "allowed_cidrs[1]"),
        ({"allowed_cidrs": ("10.0.0.0/8",)}, {"allowed_cidrs": ["::/0"]}, "allowed_cidrs[0]"),
        ({"scopes": ("chat",)}, {"scopes": ["chat", "billing"]}, "scopes[1]"),
        ({"expires_at_ms": 5}, {"expires_at_ms": 6}, "expires_at"),
        ({"limits": Limits(tpd=5)}, {"tpd": 6}, "limits.tpd"),
        (
            {"budgets": (Budget("usd", 5, "day"),)},
            {"budgets": [{"unit": "usd", "amount": 6, "window": "day"}]},
            "budgets[0].amount",
        ),
    ],
)
def test_what_goes_beyond_is_named(own: Json, wish: Json, field: str) -> None:
    """By the path of what was sent."""
    with pytest.raises(InvalidField) as refusal:
        narrowed(make_key(**own), wish)
    assert refusal.value.param == field
