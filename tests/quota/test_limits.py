"""Limits: requests and tokens a minute, requests at the same time; exact, whatever was refused before.

Limits of a few a minute leak one in many seconds, so no test depends on how fast it runs.
"""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.base.ids import new_id
from app.base.limits import Limits
from app.base.wire import Wire
from app.quota.gate import Admitted, Refused
from app.quota.rules import Subject
from tests.quota.till import Till

_FAR_AHEAD_US = 4_000_000_000_000_000  # levels written in the future have not leaked yet


@pytest.fixture(autouse=True)
async def _credit(till: Till) -> None:
    await till.warm(1_000_000)


async def test_a_minutes_worth_at_once_and_not_one_more(till: Till) -> None:
    """A key that was quiet may use its whole minute at once; what is left is counted down."""
    answers = [await till.admit(f"req_{i}", rpm=3) for i in range(4)]
    assert [answer.requests.left for answer in answers if isinstance(answer, Admitted)] == [2, 1, 0]
    refused = answers[3]
    assert isinstance(refused, Refused)
    assert (refused.rule, refused.left) == ("rpm", 0)
    assert 0 < refused.retry_after_ms <= 20_000
    assert refused.retry_after_ms <= refused.reset_ms <= 60_000


async def test_a_burst_is_not_let_through(till: Till) -> None:
    """Requests that start together are counted before any of them has ended."""
    answers = await asyncio.gather(*(till.admit(f"req_{i}", rpm=5) for i in range(50)))
    assert sum(isinstance(answer, Admitted) for answer in answers) == 5


async def test_waiting_as_told_admits_one(till: Till) -> None:
    """`retry_after_ms` later one request is admitted, and the one after it has to wait again."""
    for i in range(3):
        await till.admit(f"req_{i}", rpm=3)
    refused = await till.admit("req_3", rpm=3)
    assert isinstance(refused, Refused)
    await till.rewind(refused.retry_after_ms // 2)
    assert isinstance(await till.admit("req_4", rpm=3), Refused)
    await till.rewind(refused.retry_after_ms - refused.retry_after_ms // 2)
    assert isinstance(await till.admit("req_5", rpm=3), Admitted)
    assert isinstance(await till.admit("req_6", rpm=3), Refused)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rpm=st.integers(1, 100_000), over=st.floats(0, 1, exclude_min=True))
async def test_the_wait_is_exact_to_the_millisecond(till: Till, rpm: int, over: float) -> None:
    """A level leaks `rpm` millionths of a request in 60 us: one millisecond earlier than told is too early."""
    level = (rpm - 1) * 1_000_000 + max(1, int(over * 1_000_000))

    async def admit_after(ms: int) -> Admitted | Refused:
        left = max(0, level - ms * 1000 * rpm // 60)
        await till.wire.call("HSET", till.use, "r", left, "t", 0, "at", _FAR_AHEAD_US)
        return await till.admit(new_id("req"), rpm=rpm)

    refused = await admit_after(0)
    assert isinstance(refused, Refused)
    assert isinstance(await admit_after(refused.retry_after_ms), Admitted)
    assert isinstance(await admit_after(refused.retry_after_ms - 1), Refused)


async def test_a_refused_request_uses_nothing_up(till: Till) -> None:
    """Whichever rule refuses, the other limits, the wallet and the shard's holds stay as they were."""
    await till.admit("req_0", nano=999_990, tokens=50, rpm=9, tpm=60, concurrency=1)
    before = await till.wire.call("HGETALL", till.use), await till.wallet()
    limits = {"rpm": 9, "tpm": 60, "concurrency": 2}
    refusals = [
        await till.admit("req_1", tokens=50, **limits),
        await till.admit("req_2", tokens=1, nano=11, **limits),
        await till.admit("req_3", **limits | {"concurrency": 1}),
        await till.admit("req_4", **limits | {"rpm": 1}),
    ]
    rules = [refusal.rule for refusal in refusals if isinstance(refusal, Refused)]
    assert rules == ["tpm", "credit", "concurrency", "rpm"]
    assert (await till.wire.call("HGETALL", till.use), await till.wallet()) == before
    assert await till.wire.call("HKEYS", till.shard.holds) == [b"req_0"]
    assert await till.wire.call("ZCARD", till.shard.leases) == 1
    assert await till.wire.call("ZCARD", till.live) == 1


async def test_tokens_are_held_by_estimate_and_corrected(till: Till) -> None:
    """The estimate counts while the request runs; what it did not use is given back when it is settled."""
    first = await till.admit("req_1", tokens=50, tpm=60)
    assert isinstance(first, Admitted)
    assert first.tokens.left == 10
    refused = await till.admit("req_2", tokens=30, tpm=60)
    assert isinstance(refused, Refused)
    assert refused.rule == "tpm"
    await till.settle("req_1", tokens=10)
    assert int(await till.wire.call("HGET", till.use, "t")) == 10_000_000
    assert isinstance(await till.admit("req_3", tokens=30, tpm=60), Admitted)


async def test_more_tokens_than_estimated_count_too(till: Till) -> None:
    """A request that used more than was held takes it from the next ones."""
    await till.admit("req_1", tokens=10, tpm=60)
    await till.settle("req_1", tokens=600)
    refused = await till.admit("req_2", tokens=1, tpm=60)
    assert isinstance(refused, Refused)
    assert (refused.rule, refused.left) == ("tpm", 0)
    assert refused.retry_after_ms > 500_000


async def test_a_late_correction_gives_back_only_what_is_still_held(till: Till) -> None:
    """An estimate leaks away within its minute: what it did not use is not there any more to be given to others."""
    await till.admit("req_1", tokens=60, tpm=60)
    await till.rewind(60_000)
    assert isinstance(await till.admit("req_2", tokens=60, tpm=60), Admitted)
    await till.settle("req_1", tokens=10)
    refused = await till.admit("req_3", tokens=40, tpm=60)
    assert isinstance(refused, Refused)
    assert refused.rule == "tpm"


async def test_a_request_larger_than_the_minute_can_run_alone(till: Till) -> None:
    """An estimate above the limit counts as the whole limit: it runs when nothing else does, and not never."""
    assert isinstance(await till.admit("req_1", tokens=5000, tpm=60), Admitted)
    await till.settle("req_1", tokens=12)
    assert int(await till.wire.call("HGET", till.use, "t")) == 12_000_000


async def test_an_expired_request_gives_its_tokens_back(till: Till) -> None:
    """Its worker is gone, and what it used is not known: the hold on tokens ends with the hold on money."""
    await till.admit("req_1", tokens=60, tpm=60)
    await till.expire("req_1")
    assert isinstance(await till.admit("req_2", tokens=60, tpm=60), Admitted)


async def test_places_are_freed_by_settlement(till: Till) -> None:
    """So many at the same time: the next one waits for one of them to end."""
    assert isinstance(await till.admit("req_1", concurrency=2), Admitted)
    assert isinstance(await till.admit("req_2", concurrency=2), Admitted)
    refused = await till.admit("req_3", concurrency=2)
    assert isinstance(refused, Refused)
    assert refused.rule == "concurrency"
    await till.settle("req_1")
    assert isinstance(await till.admit("req_3", concurrency=2), Admitted)


async def test_places_are_freed_when_their_lease_ends(till: Till) -> None:
    """A worker that died gives its places back: none stays taken for good."""
    await till.admit("req_1", concurrency=1)
    await till.run_out("req_1")
    assert isinstance(await till.admit("req_2", concurrency=1), Admitted)


async def test_a_request_that_outlives_its_first_lease_keeps_its_place(till: Till) -> None:
    """A renewed lease is renewed for the limit of concurrent requests too: a long stream still counts."""
    await till.admit("req_1", concurrency=1)
    await till.run_out("req_1")
    assert await till.gate.renew(till.shard, ["req_1"]) == 1
    refused = await till.admit("req_2", concurrency=1)
    assert isinstance(refused, Refused)
    assert refused.rule == "concurrency"


async def test_keys_of_one_account_have_limits_of_their_own(till: Till) -> None:
    """One key's burst does not slow another's; the wallet is theirs together."""
    other = Till(till.wire, till.account_id, "key_2")
    assert isinstance(await till.admit("req_1", nano=1, rpm=1), Admitted)
    assert isinstance(await till.admit("req_2", rpm=1), Refused)
    assert isinstance(await other.admit("req_3", nano=1, rpm=1), Admitted)
    assert (await till.wallet()).held_nano == 2


_some = st.none() | st.integers(1, 30)
_many = st.none() | st.integers(1, 2_000)
_rates = st.builds(lambda rpm, tpm: Limits(rpm=rpm or 0, tpm=tpm or 0), _some, _many)
_asks = st.lists(st.tuples(st.integers(1, 3_000), st.integers(0, 3_000), st.booleans()), min_size=1, max_size=25)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=_rates, account=_rates, model=_rates, asks=_asks)
async def test_who_waits_as_told_is_not_refused_twice(
    wire: Wire, key: Limits, account: Limits, model: Limits, asks: list[tuple[int, int, bool]]
) -> None:
    """Whatever rules there are, whatever runs meanwhile, and whether requests use less than was held for them: the one
    wait that was told is enough for all of them."""
    till = Till(wire)
    await wire.call("FLUSHALL", at=till.slots.wallet)
    await till.warm(1_000_000)
    subjects = [
        Subject("key", till.slots.key_id, key),
        Subject("account", "acc_1", account),
        Subject("model", "acc_1", model, model="small"),
    ]
    for number, (tokens, used, settles) in enumerate(asks):
        request_id = f"req_{number}"
        answer = await till.admit_under(request_id, subjects, tokens=tokens)
        if isinstance(answer, Refused):
            assert answer.retry_after_ms > 0
            await till.rewind(answer.retry_after_ms)
            answer = await till.admit_under(request_id, subjects, tokens=tokens)
        assert isinstance(answer, Admitted), answer
        if settles:
            await till.settle(request_id, tokens=min(used, tokens))
