"""What is said of a Redis: by rule, and by a real one."""

from pathlib import Path

import pytest

from app.base.errors import OutcomeUnknown
from app.base.redis_checks import RedisFacts, check_redis, confirming, read_facts, strictest
from app.base.wire import Connected, Wire
from app.books import Books
from app.settings import load_settings
from tests.quota.till import Till
from tests.servers import DurableRedis, RedisCluster, RedisServer

FIT = RedisFacts(
    version="7.4.1", role="master", appends=True, replicas=0, fsync="always", memory_most=0, eviction="noeviction"
)


def codes(**facts: object) -> list[str]:
    said = {name: getattr(FIT, name) for name in FIT.__struct_fields__} | facts
    return [finding.code for finding in check_redis(RedisFacts(**said))]


def test_nothing_is_said_of_one_that_fits() -> None:
    assert codes() == []
    assert codes(version="6.2.0") == codes(version="8.0.3") == []


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"version": "6.0.16"}, "version"),
        ({"version": None}, "identity_unknown"),
        ({"role": "slave"}, "role"),
        ({"appends": False}, "no_append_only_file"),
        ({"appends": None}, "durability_unknown"),
        ({"fsync": "everysec"}, "fsync"),
        ({"fsync": "no"}, "fsync"),
        ({"fsync": None}, "fsync_unknown"),
        ({"memory_most": 1_000_000, "eviction": "allkeys-lru"}, "eviction"),
        ({"eviction": None}, "eviction_unknown"),
    ],
)
def test_what_does_not_fit_is_said(facts: dict[str, object], code: str) -> None:
    """What can't be seen is not taken to be right."""
    assert codes(**facts) == [code]


def test_a_policy_that_never_applies_does_no_harm() -> None:
    assert codes(memory_most=0, eviction="allkeys-lru") == []


def test_writes_wait_for_what_the_operator_asks_for() -> None:
    """And where the server can't, that is said rather than asked for."""
    old = RedisFacts(version="6.2.14", role="master", appends=True, replicas=1)
    assert confirming(FIT, 0, 0) is None
    assert confirming(FIT, 1, 0) == (b"WAIT", 1, 500)
    assert confirming(FIT, 1, 1) == (b"WAITAOF", 1, 1, 500)
    assert confirming(old, 0, 1) is None
    assert [finding.code for finding in check_redis(FIT, 1, 0)] == ["replicas"]
    assert "wait_disk" in [finding.code for finding in check_redis(old, 1, 1)]
    assert codes(replicas=1) == ["unconfirmed_replicas"]


async def test_a_write_that_no_replica_confirms_is_not_taken_for_one_that_stays(redis_server: RedisServer) -> None:
    wire = Wire(redis_server.url)
    await wire.open()
    await wire.confirm(b"any")
    wire.confirm_with = (b"WAIT", 1, 10)
    with pytest.raises(OutcomeUnknown):
        await wire.confirm(b"any")
    wire.confirm_with = (b"WAIT", 0, 10)
    await wire.confirm(b"any")
    wire.confirm_with = (b"WAITAOF", 1, 0, 10)  # which a server of 6.2 does not know
    with pytest.raises(OutcomeUnknown):
        await wire.confirm(b"any")
    await wire.close()


async def test_an_admission_that_is_not_confirmed_is_taken_back(tmp_path: Path) -> None:
    """Its 503 says that nothing was charged. The server was demoted, or went away, before it was asked."""
    redis = DurableRedis(tmp_path / "redis")
    wire = Wire(redis.url, deadline_s=0.5)
    await wire.open()
    till = Till(wire)
    await till.warm(100)
    wire.confirm_with = (b"WAITAOF", 1, 0, 10)
    try:
        with pytest.raises(OutcomeUnknown):
            await till.admit("req_1", nano=60)
        assert [unheard.request_id for unheard in till.gate.unheard] == ["req_1"]
        assert (await till.wallet()).held_nano == 60
        await till.gate.void(till.gate.unheard[0])
        assert (await till.wallet()).held_nano == 0
    finally:
        await wire.close()
        redis.kill()


async def test_what_does_not_fit_about_one_server_of_a_cluster_is_said(
    redis_cluster: RedisCluster, tmp_path: Path
) -> None:
    """Whichever of them was connected to last."""
    first = redis_cluster.ports[0]
    redis_cluster.ask(first, "CONFIG", "SET", "maxmemory", "500mb")
    redis_cluster.ask(first, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    settings = load_settings({"TOLLGATE_REDIS_URL": redis_cluster.url, "TOLLGATE_DATA_DIR": str(tmp_path)})
    books = Books(settings, {"shards": "4", "admin": "00" * 32})
    try:
        await books.open()
        await books.wire.ping()
        codes = [finding.code for finding in books.redis_findings]
        assert codes.count("eviction") == 1
        assert len(codes) == len(set(codes))
    finally:
        await books.close()
        redis_cluster.ask(first, "CONFIG", "SET", "maxmemory", "0")
        redis_cluster.ask(first, "CONFIG", "SET", "maxmemory-policy", "noeviction")


def test_what_is_waited_for_is_the_most_that_was_asked_for() -> None:
    """A server of a cluster that can't wait for its disk makes nobody wait less."""
    assert strictest(None, None) is None
    assert strictest(None, (b"WAIT", 1, 500)) == (b"WAIT", 1, 500)
    assert strictest((b"WAITAOF", 1, 1, 500), (b"WAIT", 1, 500)) == (b"WAITAOF", 1, 1, 500)
    assert strictest((b"WAITAOF", 1, 0, 500), None) == (b"WAITAOF", 1, 0, 500)


async def test_a_real_one_says_all_of_it(redis_server: RedisServer) -> None:
    found: list[RedisFacts] = []

    async def greet(server: Connected) -> None:
        found.append(await read_facts(server))

    wire = Wire(redis_server.url, greet=greet)
    await wire.open()
    await wire.ping()
    await wire.close()
    (facts,) = found
    assert facts.version is not None
    assert facts.version.startswith("6.2")
    said = (facts.role, facts.appends, facts.replicas, facts.memory_most, facts.eviction, facts.fsync)
    assert said == ("master", False, 0, 0, "noeviction", "everysec")
