"""What is said of a Redis: by rule, and by a real one."""

import pytest

from app.base.redis_checks import RedisFacts, check_redis, read_facts
from app.base.wire import Connected, Wire
from tests.servers import RedisServer

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
        ({"version": None}, "version"),
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
