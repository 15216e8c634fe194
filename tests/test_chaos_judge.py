"""The fault test's verdict rests on its judge: each wrong of the books that it looks for, it finds."""

import asyncio

import msgspec
import pytest

from benchmarks.chaos.by_kind import KindResult, results_by_kind
from benchmarks.chaos.errand import PROMPT_TOKENS, Errand, Sent, Served, Struck
from benchmarks.chaos.faults import calm_before_s
from benchmarks.chaos.judge import Finding, judge_money, judge_requests
from benchmarks.chaos.lost_writes import streams_lost
from benchmarks.chaos.match import is_rebuilding, match
from benchmarks.chaos.money_in import Paid, Verified, Watch
from benchmarks.chaos.office import Receipt, Wallet
from benchmarks.chaos.plan import EXCLUSIVE, draw, kinds
from benchmarks.chaos.servers import Stream
from benchmarks.money import charge_nano
from benchmarks.operator_api import Usage, Verdict

SERIAL = 100_000
DUE_NANO = charge_nano(PROMPT_TOKENS, SERIAL)
DUE = f"{DUE_NANO // 10**9}.{DUE_NANO % 10**9:09}"
CREATED = "1970-01-01T00:00:10.500Z"
KILL = Struck(number=1, kind="kill a worker", loses=True, target="worker", began_ms=10_700, ended_ms=10_700)
REDIS = Struck(number=1, kind="kill Redis", loses=False, target="redis", began_ms=10_700, ended_ms=10_900)
EMPTIED = Struck(
    number=2,
    kind="empty Redis",
    loses=False,
    loses_writes=True,
    target=EXCLUSIVE,
    began_ms=10_700,
    ended_ms=10_900,
)

ERRAND = Errand(serial=SERIAL, stream=True, wait_ms=1, frames=3)
SENT = Sent(
    errand=ERRAND,
    account_id="a",
    key_id="k",
    sent_ms=10_400,
    ended_ms=11_000,
    outcome="answered",
    status=200,
    request_id="r1",
    frames=3,
)
SERVED = Served(seen=1, whole=1, frames=3)
RECEIPT = Receipt(
    request_id="r1",
    created_at=CREATED,
    account_id="a",
    key_id="k",
    stream=True,
    status="ok",
    usage=Usage(PROMPT_TOKENS, SERIAL),
    usage_source="upstream",
    amount=DUE,
)
EXPIRED = msgspec.structs.replace(RECEIPT, status="expired", usage=Usage(0, 0), usage_source="none", amount="0")
BROKEN = msgspec.structs.replace(SENT, outcome="broken", request_id="")
change = msgspec.structs.replace


def differences(
    sent: Sent = SENT, served: Served = SERVED, receipts: tuple[Receipt, ...] = (RECEIPT,), struck: tuple = ()
) -> list[str]:
    cases, strays = match([sent], {SERIAL: served}, receipts)
    return [finding.what for finding in judge_requests(cases, strays, struck) if finding.difference]


def test_an_answer_with_its_receipt_is_in_order():
    assert differences() == []


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"receipts": ()}, "requests that the upstream saw, without a receipt"),
        ({"receipts": (RECEIPT, change(RECEIPT, request_id="r2"))}, "requests with two receipts"),
        ({"receipts": (RECEIPT, change(EXPIRED, request_id="r2", key_id="other"))}, "receipts of no request"),
        ({"receipts": (change(RECEIPT, amount="0.5"),)}, "whole answers that are not charged in full"),
        ({"receipts": (EXPIRED,), "struck": (KILL,)}, "whole answers that are not charged in full"),
        ({"sent": BROKEN, "receipts": (EXPIRED,)}, "expired without a kill to explain it"),
        ({"sent": BROKEN, "receipts": (EXPIRED,), "struck": (REDIS,)}, "expired without a kill to explain it"),
        (
            {"sent": BROKEN, "receipts": (change(RECEIPT, usage_source="estimated"),)},
            "served in full, without its full charge and without an excuse",
        ),
        (
            {"sent": BROKEN, "receipts": (change(EXPIRED, amount="0.1"),), "struck": (KILL,)},
            "charged for nothing: refused by the vendor, or expired",
        ),
        ({"receipts": (change(RECEIPT, unpaid="0.1"),)}, "receipts with something unpaid"),
        (
            {"sent": change(SENT, outcome="refused", status=429)},
            "refused for want of credit or by a limit, and served all the same",
        ),
        ({"served": Served(seen=2, whole=1)}, "relayed more than once"),
        ({"sent": change(SENT, outcome="gave up")}, "requests that got an internal error, or no end at all"),
        ({"sent": change(SENT, frames=2)}, "whole streams with frames lost, doubled or out of order"),
        (
            {"sent": change(SENT, errand=change(ERRAND, ending="cut"))},
            "broken streams that ended as if they were whole",
        ),
        ({"sent": change(SENT, cost="0.1")}, "answers that name another cost than their receipt"),
    ],
)
def test_each_wrong_is_found(wrong: dict, what: str):
    assert what in differences(**wrong)


def test_a_kill_excuses_an_expired_receipt_of_a_request_that_it_cut_off():
    assert differences(sent=BROKEN, receipts=(EXPIRED,), struck=(KILL,)) == []


def test_a_kill_excuses_nothing_that_ended_before_it():
    early = change(BROKEN, sent_ms=5_000, ended_ms=6_000)
    assert differences(sent=early, receipts=(EXPIRED,), struck=(KILL,)) == ["expired without a kill to explain it"]


def test_redis_excuses_an_expired_receipt_of_a_request_that_was_never_relayed():
    assert differences(sent=BROKEN, served=Served(), receipts=(EXPIRED,), struck=(REDIS,)) == []


def test_a_redis_that_lost_writes_excuses_an_expired_receipt_of_a_request_that_was_never_relayed():
    assert differences(sent=BROKEN, served=Served(), receipts=(EXPIRED,), struck=(EMPTIED,)) == []


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"receipts": ()}, "requests that the upstream saw, without a receipt"),
        ({"receipts": ()}, "whole answers that are not charged in full"),
        ({"sent": BROKEN, "receipts": ()}, "requests that the upstream saw, without a receipt"),
        ({"receipts": (RECEIPT, change(RECEIPT, request_id="r2"))}, "requests with two receipts"),
        ({"receipts": (EXPIRED,)}, "whole answers that are not charged in full"),
        ({"sent": BROKEN, "receipts": (EXPIRED,)}, "expired without a kill to explain it"),
    ],
)
def test_a_redis_that_lost_writes_excuses_nothing_that_the_upstream_saw(wrong: dict, what: str):
    """Workers keep their settlements until they are posted: a Redis that is emptied, restored or replaced by a replica
    that lagged takes no receipt with it. An earlier rule let receipts go that an emptied Redis had alone."""
    assert what in differences(**wrong, struck=(EMPTIED,))


def test_a_receipt_without_a_name_is_of_the_request_before_where_the_last_one_has_its_own():
    later = change(SENT, errand=change(ERRAND, serial=SERIAL + 1), sent_ms=10_450, request_id="r2")
    receipts = (change(RECEIPT, request_id="r2", usage=Usage(PROMPT_TOKENS, SERIAL + 1)), EXPIRED)
    cases, strays = match([BROKEN, later], {}, receipts)
    assert [[receipt.status for receipt in case.receipts] for case in cases.values()] == [["expired"], ["ok"]]
    assert not strays


def _money(balance_nano: int, held_nano: int = 0, watch: Watch | None = None) -> list[Finding]:
    cases, _ = match([SENT], {SERIAL: SERVED}, [RECEIPT])
    wallets = {"a": Wallet(balance_nano, held_nano)}
    found = judge_money(cases, [RECEIPT], wallets, Paid(usd={"a": 5}), watch or Watch())
    return [finding for finding in found if finding.difference]


def test_a_wallet_is_its_payments_less_its_receipts_to_the_nano():
    assert _money(5 * 10**9 - DUE_NANO) == []
    assert [finding.found for finding in _money(5 * 10**9 - DUE_NANO + 1)] == [1]


def test_holds_left_and_wallets_seen_below_zero_are_differences():
    assert len(_money(5 * 10**9 - DUE_NANO, held_nano=7)) == 1
    assert len(_money(5 * 10**9 - DUE_NANO, watch=Watch(below_zero=1))) == 1


def test_a_seed_draws_the_same_faults_and_deals_each_kind_evenly():
    among = kinds("postgres", 5, emptied=False)
    plan = draw(3, 3 * len(among), 100, among, short=False)
    assert plan == draw(3, 3 * len(among), 100, among, short=False)
    assert plan != draw(4, 3 * len(among), 100, among, short=False)
    assert {sum(fault.kind == kind for fault in plan) for kind in among} == {3}


def test_without_postgres_nobody_hits_it():
    assert not [kind for kind in kinds("sqlite", 5, emptied=False) if kind.target == "postgres"]


class OfficeThatDrifts:
    """An operator API whose wallets are overdrawn and whose ledger does not verify."""

    async def wallet(self, account_id: str) -> Wallet:
        return Wallet(balance_nano=-1, held_nano=7)

    async def verdict(self) -> tuple[Verdict, list[str]]:
        return Verdict(ok=False, drift_nano=5), ["drift"]


async def _watched(struck: list[Struck]) -> Watch:
    watch, stopping = Watch(), asyncio.Event()
    watching = asyncio.create_task(watch.run(OfficeThatDrifts(), ["a"], struck, stopping, every_s=0, verify_every=1))
    while watch.looks + watch.rebuilding < 4 and not watching.done():
        await asyncio.sleep(0)
    stopping.set()
    await watching
    return watch


async def test_looks_while_redis_is_rebuilt_are_counted_apart():
    """A balance may be on its way for some seconds after Redis lost writes; nobody says that it was wrong for good."""
    watch = await _watched([change(EMPTIED, began_ms=0, ended_ms=0)])
    assert watch.rebuilding >= 4
    assert (watch.looks, watch.below_zero, watch.held_beyond, watch.verdicts, watch.not_ok) == (0, 0, 0, 0, 0)
    assert not watch.verified


async def test_looks_after_the_rebuild_or_without_a_loss_are_judged():
    for struck in ([], [EMPTIED], [change(REDIS, began_ms=0, ended_ms=0)]):
        watch = await _watched(struck)
        assert watch.rebuilding == 0
        assert watch.below_zero == watch.held_beyond == watch.looks
        assert watch.not_ok == watch.verdicts > 0
        assert watch.verified[0].drift_nano == 5


@pytest.mark.parametrize(
    ("began_ms", "ended_ms", "rebuilding"),
    [(10_000, 10_699, False), (10_000, 10_700, True), (20_900, 21_000, True), (20_901, 21_000, False)],
)
def test_redis_is_rebuilt_from_the_loss_until_ten_seconds_after_it(began_ms: int, ended_ms: int, rebuilding: bool):
    assert is_rebuilding([EMPTIED], began_ms, ended_ms) is rebuilding


def test_each_kind_that_loses_writes_has_its_lost_its_doubled_and_its_drift():
    """Drift is what the first verdict says after the repair; a verdict during it is none."""
    cases, _ = match([SENT], {SERIAL: SERVED}, [])
    promoted = change(EMPTIED, kind="promote a lagging replica", began_ms=90_000, ended_ms=91_000)
    verified = [Verified(9_000, 1), Verified(12_000, 2), Verified(30_000, 3), Verified(200_000, 0)]
    assert results_by_kind(cases.values(), [KILL, EMPTIED, promoted], verified) == [
        KindResult("empty Redis", done=1, lost=1, drift_nano=3),
        KindResult("promote a lagging replica", done=1),
    ]
    doubled, _ = match([SENT], {SERIAL: SERVED}, [RECEIPT, change(RECEIPT, request_id="r2")])
    assert [kind.twice for kind in results_by_kind(doubled.values(), [EMPTIED], verified)] == [1]


def test_a_stream_went_back_where_its_last_id_is_lower_than_before():
    had = {"s1": Stream("9-1", 0), "s2": Stream("10-0", 0), "s3": Stream("7-0", 0), "s4": Stream("8-0", 2)}
    kept = {"s1": Stream("9-1", 0), "s2": Stream("9-5", 0), "s3": Stream("11-0", 0)}
    assert streams_lost(had, kept) == ["s2 10-0 -> 9-5", "s4 8-0 -> 0-0"]


def test_faults_that_lose_writes_are_alone_and_among_the_others():
    among = kinds("postgres", 5, emptied=False)
    losing = [kind for kind in among if kind.loses_writes]
    assert len(losing) == 4
    assert {kind.target for kind in losing} == {EXCLUSIVE}
    assert "promote a lagging replica" in [fault.kind.name for fault in draw(2, 11, 30, among, short=True)]
    of_a_cluster = [kind.name for kind in kinds("postgres", 5, emptied=True, cluster=True) if kind.loses_writes]
    assert of_a_cluster == ["empty Redis while a batch is in hand", "empty Redis"]


def test_a_redis_forgets_nothing_of_a_worker_that_was_killed_just_before():
    """Only Redis knew of the requests that a killed worker had: a fault that takes writes waits until their leases have
    run out and their receipts are posted. What happened before an earlier fault of that sort is over."""
    assert calm_before_s([], 5) == calm_before_s([REDIS], 5) == calm_before_s([KILL, EMPTIED, REDIS], 5)
    assert calm_before_s([KILL, REDIS], 5) >= calm_before_s([REDIS], 5) + 5
