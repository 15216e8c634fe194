"""Rules compiled: which subjects they bound, what a hold's trace says, and when they have to be compiled again."""

import pytest

from app.base.limits import NO_LIMITS, Budget, Limits
from app.quota.rules import NO_RULES, Subject, compile_rules, traced_subjects
from app.quota.slots import use_keys

NOON_MS = 1_782_900_000_000  # 2026-07-01T10:00Z


def test_without_rules_nothing_is_said() -> None:
    subjects = [Subject("key", "key_1", NO_LIMITS), Subject("account", "acc_1", NO_LIMITS)]
    assert compile_rules(subjects, NOON_MS) is NO_RULES


@pytest.mark.parametrize(
    ("subject", "trace"),
    [
        pytest.param(Subject("key", "key_1", Limits(rpm=5)), "-", id="what settlement leaves as it is"),
        pytest.param(Subject("key", "key_1", Limits(tpm=600, concurrency=2)), "key_1=c,t600", id="rates and places"),
        pytest.param(Subject("account", "acc_1", Limits(rpd=7, tpd=8)), "acc_1=rpd:7,tpd:8", id="a day"),
        pytest.param(
            Subject("account", "acc_1", NO_LIMITS, (Budget("usd", 5, "lifetime"), Budget("tokens", 6, "hour"))),
            "acc_1=usd.lifetime:5,tokens.hour:6",
            id="budgets",
        ),
        pytest.param(
            Subject("model", "acc_1", Limits(concurrency=1), model="or/a;b=c, d"),
            "acc_1/or/a%3Bb%3Dc%2C%20d=c",
            id="a model with every sign that a trace is made of",
        ),
    ],
)
def test_the_trace_says_what_settlement_corrects(subject: Subject, trace: str) -> None:
    rules = compile_rules([subject], NOON_MS)
    assert rules.trace == trace
    assert traced_subjects(trace) == ([] if trace == "-" else [subject.name])


def test_subjects_stand_in_the_order_of_the_trace() -> None:
    """Those that it leaves out come last: places among the subjects are the same for both scripts."""
    key = Subject("key", "key_1", Limits(rpm=5))
    account = Subject("account", "acc_1", Limits(concurrency=5))
    rules = compile_rules([key, account], NOON_MS)
    assert rules.subjects == (account, key)
    assert rules.trace == "acc_1=c"
    assert use_keys(3, rules.names)[:2] == use_keys(3, rules.trace) == (b"{s3}:use:acc_1", b"{s3}:live:acc_1")


def test_rules_last_until_the_first_window_turns() -> None:
    budgets = (Budget("usd", 5, "month"), Budget("usd", 5, "hour"), Budget("usd", 5, "lifetime"))
    assert compile_rules([Subject("key", "key_1", NO_LIMITS, budgets)], NOON_MS).until_ms == NOON_MS + 3_600_000
    assert compile_rules([Subject("key", "key_1", Limits(rpm=1), budgets[2:])], NOON_MS).until_ms is None
