"""Limits a day and budgets: held with the worst case, corrected at settlement, exact whatever happens in between."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.base.clock import now_ms
from app.base.limits import NO_LIMITS, Budget, Limits
from app.base.wire import Wire
from app.quota.gate import Admitted, Reached, Refused
from app.quota.rules import Subject, compile_rules
from tests.quota.till import Till

DAY_MS = 86_400_000


@pytest.fixture(autouse=True)
async def _credit(till: Till) -> None:
    await till.warm(1_000_000)


def budgeted(*budgets: Budget, limits: Limits = NO_LIMITS, account: str = "acc_1") -> Subject:
    return Subject("account", account, limits, budgets)


async def counter(till: Till, name: str, subject: str = "acc_1") -> tuple[int, int]:
    """Settled, and set aside."""
    use = b"{s%d}:use:%b" % (till.shard.number, subject.encode())
    used, held = await till.wire.call("HMGET", use, name, f"{name}+")
    return int(used), int(held)


async def test_a_budget_is_held_with_the_worst_case_and_corrected(till: Till) -> None:
    rules = [budgeted(Budget("usd", 1_000, "month"), Budget("tokens", 500, "day"), Budget("requests", 2, "lifetime"))]
    assert isinstance(await till.admit_under("req_1", rules, nano=600, tokens=300), Admitted)
    assert await counter(till, "usd.month") == (0, 600)
    refused = await till.admit_under("req_2", rules, nano=401, tokens=1)
    assert isinstance(refused, Refused)
    assert (refused.rule, refused.left, refused.used) == ("usd.month", 400, 0)
    await till.settle("req_1", nano=250, tokens=120)
    assert await counter(till, "usd.month") == (250, 0)
    assert await counter(till, "tokens.day") == (120, 0)
    assert await counter(till, "requests.lifetime") == (1, 0)
    assert isinstance(await till.admit_under("req_3", rules, nano=750, tokens=380), Admitted)
    refused = await till.admit_under("req_4", rules)
    assert isinstance(refused, Refused)
    assert (refused.rule, refused.retry_after_ms) == ("requests.lifetime", -1)


async def test_a_thousand_at_once_never_exceed_a_budget(till: Till) -> None:
    rules = [budgeted(Budget("usd", 70, "day"))]
    await till.admit_under("req_first", rules)
    answers = await asyncio.gather(*(till.admit_under(f"req_{i}", rules, nano=7) for i in range(300)))
    assert sum(isinstance(answer, Admitted) for answer in answers) == 10


@pytest.mark.parametrize("ends", ["settled", "expired"])
async def test_whatever_ends_a_request_frees_what_it_held(till: Till, ends: str) -> None:
    """The hold itself says which counters it is in: the sweeper knows no rules."""
    rules = [
        Subject("key", till.slots.key_id, Limits(tpm=60, rpd=5, tpd=100, concurrency=1)),
        budgeted(Budget("usd", 100, "week")),
        Subject("model", "acc_1", Limits(concurrency=1, tpd=100), model="or/gpt; 4,o=x"),
    ]
    assert isinstance(await till.admit_under("req_1", rules, nano=80, tokens=60), Admitted)
    assert isinstance(await till.admit_under("req_2", rules), Refused)
    if ends == "settled":
        await till.settle("req_1", nano=0, tokens=0)
    else:
        await till.run_out("req_1")
        (hold,) = await till.wallets.overdue(till.shard.number)
        assert await till.wallets.expire("req_1", hold.account_id, hold.trace, b"{}")
    assert await counter(till, "usd.week") == (0, 0)
    assert await counter(till, "tpd", "acc_1/or/gpt%3B%204%2Co%3Dx") == (0, 0)
    assert await counter(till, "rpd", till.slots.key_id) == (1, 0)
    assert isinstance(await till.admit_under("req_3", rules, nano=100, tokens=60), Admitted)


async def test_all_rules_are_looked_at_and_the_longest_wait_is_told(till: Till) -> None:
    """One that waits for the first to let it in would be refused by the second."""
    rules = [
        Subject("key", till.slots.key_id, Limits(rpm=1)),
        Subject("account", "acc_1", Limits(rpm=2, rpd=1)),
    ]
    assert isinstance(await till.admit_under("req_1", rules), Admitted)
    refused = await till.admit_under("req_2", rules)
    assert isinstance(refused, Refused)
    subject = compile_rules(rules, now_ms()).subjects[refused.subject]
    assert (subject.id, refused.rule) == ("acc_1", "rpd")
    assert 0 < refused.retry_after_ms <= 25 * 3_600_000


async def test_a_refused_request_uses_nothing_up_of_any_rule(till: Till) -> None:
    key = Subject("key", till.slots.key_id, Limits(rpm=5, tpm=50, rpd=5, tpd=50, concurrency=2))
    open_rules = [key, budgeted(Budget("usd", 100, "day"), Budget("requests", 9, "day"))]
    await till.admit_under("req_1", open_rules, nano=10, tokens=10)

    async def state() -> list[Any]:
        use = [b"{s%d}:use:%b" % (till.shard.number, name.encode()) for name in (till.slots.key_id, "acc_1")]
        return [
            *[await till.wire.call("HGETALL", name) for name in (*use, till.slots.wallet, till.shard.holds)],
            *[await till.wire.call("ZCARD", name) for name in (till.live, till.shard.leases)],
        ]

    before = await state()
    for number, (nano, tokens) in enumerate([(91, 0), (0, 41), (2_000_000, 0)]):
        assert isinstance(await till.admit_under(f"req_no_{number}", open_rules, nano=nano, tokens=tokens), Refused)
    assert await state() == before


async def test_the_headers_show_the_tightest_of_all_rules(till: Till) -> None:
    rules = [
        Subject("key", till.slots.key_id, Limits(rpm=10, tpm=1_000)),
        Subject("account", "acc_1", Limits(rpm=100, rpd=5, tpd=900)),
    ]
    answer = await till.admit_under("req_1", rules, tokens=100)
    assert isinstance(answer, Admitted)
    assert (answer.requests.limit, answer.requests.left) == (5, 4)
    assert (answer.tokens.limit, answer.tokens.left) == (900, 800)


async def test_a_window_turns_by_itself_and_what_was_held_before_is_not_its_business(till: Till) -> None:
    """By the clock of Redis, which knows where the next one begins; a request that began before counts there."""
    rules = [budgeted(Budget("usd", 100, "day"))]
    yesterday_ms = now_ms() - DAY_MS
    await till.admit_under("req_1", rules, nano=100)
    use = b"{s%d}:use:acc_1" % till.shard.number
    starts = compile_rules(rules, now_ms()).counters[0][0].starts
    await till.wire.call("HSET", use, "usd.day@", starts[0])
    nano, tokens, _, rest = (await till.wire.call("HGET", till.shard.holds, "req_1")).split(b" ", 3)
    await till.wire.call("HSET", till.shard.holds, "req_1", b"%b %b %d %b" % (nano, tokens, yesterday_ms * 1000, rest))
    assert isinstance(await till.admit_under("req_2", rules, nano=100), Admitted)
    assert await counter(till, "usd.day") == (0, 100)
    await till.settle("req_1", nano=60)
    assert await counter(till, "usd.day") == (0, 100)
    await till.settle("req_2", nano=70)
    assert await counter(till, "usd.day") == (70, 0)


async def test_a_counter_of_an_unknown_window_is_asked_of_the_books(till: Till) -> None:
    """Nobody knows what was used since then."""
    rules = compile_rules([budgeted(Budget("usd", 100, "day"))], now_ms())
    assert await till.gate.admit(till.slots, rules, "req_1", 1, 1, b"{}") == Refused("unknown")
    await till.seed(rules, used=95)
    use = b"{s%d}:use:acc_1" % till.shard.number
    refused = await till.gate.admit(till.slots, rules, "req_1", 6, 1, b"{}")
    assert isinstance(refused, Refused)
    assert (refused.rule, refused.left, refused.used) == ("usd.day", 5, 95)
    await till.wire.call("HSET", use, "usd.day@", rules.counters[0][0].starts[0] - DAY_MS)
    assert await till.gate.admit(till.slots, rules, "req_1", 1, 1, b"{}") == Refused("unknown")


async def test_a_counter_that_is_brought_has_what_runs_set_aside(till: Till) -> None:
    rules = [budgeted(Budget("usd", 100, "day"), Budget("requests", 10, "day"))]
    await till.admit_under("req_1", rules, nano=40)
    await till.wire.call("DEL", b"{s%d}:use:acc_1" % till.shard.number)
    await till.seed(compile_rules(rules, now_ms()), used=5)
    assert await counter(till, "usd.day") == (5, 40)
    assert await counter(till, "requests.day") == (5, 1)
    await till.settle("req_1", nano=30)
    assert await counter(till, "usd.day") == (35, 0)


async def test_a_request_that_outlives_redis_counts_when_it_is_made_good(till: Till) -> None:
    rules = [budgeted(Budget("usd", 100, "day"))]
    await till.admit_under("req_1", rules, nano=40)
    await till.wire.call("FLUSHALL", at=till.slots.wallet)
    await till.warm(1_000)
    await till.seed(compile_rules(rules, now_ms()), used=5)
    await till.settle("req_1", nano=30)
    assert await counter(till, "usd.day") == (35, 0)


async def test_a_longer_hold_is_asked_of_budgets_too(till: Till) -> None:
    rules = [budgeted(Budget("usd", 100, "day"), Budget("tokens", 1, "day"))]
    await till.admit_under("req_1", rules, nano=60, tokens=1)
    assert await till.extend("req_1", 40)
    assert await counter(till, "usd.day") == (0, 100)
    assert not await till.extend("req_1", 1)
    await till.settle("req_1", nano=90)
    assert await counter(till, "usd.day") == (90, 0)


async def test_a_settlement_says_which_budgets_are_half_used(till: Till) -> None:
    rules = [Subject("key", till.slots.key_id, Limits(tpd=1)), budgeted(Budget("usd", 100, "day"))]
    await till.admit_under("req_1", rules, nano=60)
    settled = await till.settle("req_1", nano=49, tokens=1)
    assert settled is not None
    assert settled.reached == ()
    await till.admit_under("req_2", rules[1:], nano=20)
    settled = await till.settle("req_2", nano=1)
    start_ms = compile_rules(rules[1:], now_ms()).counters[0][0].starts[1]
    assert settled is not None
    assert settled.reached == (Reached(0, "usd.day", 50, 100, start_ms),)


async def test_free_requests_pass_a_budget_of_money_that_is_used_up(till: Till) -> None:
    rules = [budgeted(Budget("usd", 100, "day"))]
    await till.admit_under("req_1", rules, nano=100)
    await till.settle("req_1", nano=100)
    assert isinstance(await till.admit_under("req_2", rules, nano=1), Refused)
    assert isinstance(await till.admit_under("req_3", rules, nano=0), Admitted)


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), st.integers(0, 60), st.integers(0, 60)),
        st.tuples(st.just("settle"), st.integers(0, 20), st.integers(0, 80), st.integers(0, 80)),
        st.tuples(st.just("expire"), st.integers(0, 20)),
    ),
    max_size=30,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(usd=st.integers(1, 200), tokens=st.integers(1, 200), requests=st.integers(1, 9), steps=_steps)
async def test_any_order_of_events_is_exact(
    wire: Wire, usd: int, tokens: int, requests: int, steps: list[tuple[Any, ...]]
) -> None:
    """Settled and set aside are what plain arithmetic says, and no request is admitted beyond a budget."""
    till = Till(wire)
    await wire.call("FLUSHALL", at=till.slots.wallet)
    await till.warm(10**9)
    amounts = {"usd.day": usd, "tokens.month": tokens, "requests.lifetime": requests}
    rules = [
        budgeted(Budget("usd", usd, "day"), Budget("tokens", tokens, "month"), Budget("requests", requests, "lifetime"))
    ]
    used = dict.fromkeys(amounts, 0)
    holds: dict[str, dict[str, int]] = {}
    begun: list[str] = []
    for step in steps:
        match step:
            case "admit", nano, count:
                request_id = f"req_{len(begun)}"
                costs = {"usd.day": nano, "tokens.month": count, "requests.lifetime": 1}
                held = {name: sum(hold[name] for hold in holds.values()) for name in amounts}
                fits = all(costs[name] <= amounts[name] - used[name] - held[name] for name in amounts)
                answer = await till.admit_under(request_id, rules, nano=nano, tokens=count)
                assert isinstance(answer, Admitted) == fits
                if fits:
                    holds[request_id] = costs
                    begun.append(request_id)
            case "settle", which, nano, count if which < len(begun) and begun[which] in holds:
                del holds[begun[which]]
                await till.settle(begun[which], nano=nano, tokens=count)
                used = {
                    "usd.day": used["usd.day"] + nano,
                    "tokens.month": used["tokens.month"] + count,
                    "requests.lifetime": used["requests.lifetime"] + 1,
                }
            case "expire", which if which < len(begun) and begun[which] in holds:
                del holds[begun[which]]
                await till.expire(begun[which])
                used["requests.lifetime"] += 1
    if begun:
        for name in amounts:
            assert await counter(till, name) == (used[name], sum(hold[name] for hold in holds.values()))
