"""The keyring: junk never reaches the catalogue, a key is looked up once, and a change is never missed."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest

from app.base.clock import now_ms
from app.base.errors import InvalidKey, ServiceUnavailable
from app.base.ids import digest, new_key
from app.base.limits import Limits
from app.catalog.records import Key
from app.proxy.access import Keyring
from tests.proxy.makers import make_key


class Catalogue:
    """What the keyring asks: keys by the hash of their secret. It can be made to wait, and to be away."""

    def __init__(self) -> None:
        self.keys: dict[bytes, Key] = {}
        self.lookups = 0
        self.away = False
        self.open = asyncio.Event()
        self.open.set()

    def add(self, key: Key) -> str:
        secret = new_key()
        self.keys[digest(secret)] = key
        return secret

    async def __call__(self, secret_digest: bytes, /) -> Key | None:
        self.lookups += 1
        found = self.keys.get(secret_digest)  # read before the answer arrives, as a database would
        await self.open.wait()
        if self.away:
            raise ServiceUnavailable
        return found


@pytest.fixture
async def catalogue() -> Catalogue:
    return Catalogue()


@pytest.fixture
def keyring(catalogue: Catalogue) -> Keyring:
    return Keyring(catalogue, shards=4)


async def _looked_up(catalogue: Catalogue, times: int) -> None:
    while catalogue.lookups < times:
        await asyncio.sleep(0)


async def test_a_key_becomes_a_caller(keyring: Keyring, catalogue: Catalogue) -> None:
    """Account, limits and models are the key's; the second use asks nobody."""
    secret = catalogue.add(make_key(limits=Limits(rpm=3, tpm=4, concurrency=5), models=("small",)))
    caller = await keyring.open(secret)
    assert (caller.account_id, caller.key_id) == ("acc_1", "key_1")
    assert caller.limits == Limits(rpm=3, tpm=4, concurrency=5)
    assert caller.models is not None and "small" in caller.models and "large" not in caller.models
    assert await keyring.open(secret) is caller
    assert catalogue.lookups == 1


@pytest.mark.parametrize("junk", ["", "sk-", "sk-" + "a" * 49, "sk-live-1234", "Bearer", "sk-" + "é" * 49])
async def test_junk_is_refused_without_a_lookup(keyring: Keyring, catalogue: Catalogue, junk: str) -> None:
    """The checksum is in the key: guessing costs the database nothing."""
    with pytest.raises(InvalidKey):
        await keyring.open(junk)
    assert catalogue.lookups == 0


async def test_an_unknown_key_is_asked_for_once(keyring: Keyring, catalogue: Catalogue) -> None:
    """A key with a good checksum that nobody knows: the answer is remembered."""
    secret = new_key()
    for _ in range(3):
        with pytest.raises(InvalidKey):
            await keyring.open(secret)
    assert catalogue.lookups == 1


async def test_first_uses_at_once_are_one_lookup(keyring: Keyring, catalogue: Catalogue) -> None:
    """A thousand requests that arrive with a fresh key are not a thousand queries."""
    secret = catalogue.add(make_key())
    callers = await asyncio.gather(*(keyring.open(secret) for _ in range(1000)))
    assert catalogue.lookups == 1
    assert len({id(caller) for caller in callers}) == 1


async def test_a_first_user_who_leaves_takes_nobody_along(keyring: Keyring, catalogue: Catalogue) -> None:
    """The one that started the lookup is cancelled: those who wait for it still get their answer."""
    secret = catalogue.add(make_key())
    catalogue.open.clear()
    first = asyncio.create_task(keyring.open(secret))
    await _looked_up(catalogue, 1)
    second = asyncio.create_task(keyring.open(secret))
    await asyncio.sleep(0)
    first.cancel()
    catalogue.open.set()
    assert (await second).key_id == "key_1"
    assert catalogue.lookups == 1


async def test_a_disabled_key_is_refused(keyring: Keyring, catalogue: Catalogue) -> None:
    """As if it did not exist; enabled again, it works at its next use after the announcement."""
    secret = catalogue.add(make_key(enabled=False))
    with pytest.raises(InvalidKey):
        await keyring.open(secret)
    catalogue.keys[digest(secret)] = make_key()
    keyring.forget("key_1")
    assert (await keyring.open(secret)).key_id == "key_1"


@pytest.mark.parametrize("forget", [lambda keyring: keyring.forget("key_1"), Keyring.forget_all])
async def test_a_revoked_key_is_read_again(
    keyring: Keyring, catalogue: Catalogue, forget: Callable[[Keyring], None]
) -> None:
    """After the announcement, or when announcements may have been missed, memory is not trusted."""
    secret = catalogue.add(make_key())
    await keyring.open(secret)
    catalogue.keys[digest(secret)] = make_key(enabled=False)
    assert (await keyring.open(secret)).key_id == "key_1", "nobody has said so yet"
    forget(keyring)
    with pytest.raises(InvalidKey):
        await keyring.open(secret)


async def test_other_keys_stay_known(keyring: Keyring, catalogue: Catalogue) -> None:
    """A change of one key is no reason to look all others up again."""
    secrets = [catalogue.add(make_key(f"key_{i}")) for i in (1, 2)]
    for secret in secrets:
        await keyring.open(secret)
    keyring.forget("key_1")
    await keyring.open(secrets[1])
    assert catalogue.lookups == 2


async def test_an_account_that_changed_is_read_again(keyring: Keyring, catalogue: Catalogue) -> None:
    """Another price book applies to every key of the account at once; keys of others stay known."""
    own = [catalogue.add(make_key(f"key_{i}")) for i in (1, 2)]
    other = catalogue.add(make_key("key_3", account_id="acc_2"))
    assert [(await keyring.open(secret)).book for secret in (*own, other)] == ["default"] * 3
    for number, secret in enumerate(own, 1):
        catalogue.keys[digest(secret)] = make_key(f"key_{number}", book="resellers")
    keyring.forget_account("acc_1")
    assert [(await keyring.open(secret)).book for secret in (*own, other)] == ["resellers", "resellers", "default"]
    assert catalogue.lookups == 5


@pytest.mark.parametrize(
    "forget",
    [
        lambda keyring: keyring.forget("key_1"),
        lambda keyring: keyring.forget_account("acc_1"),
        Keyring.forget_all,
    ],
)
async def test_a_change_during_a_lookup_is_not_lost(
    keyring: Keyring, catalogue: Catalogue, forget: Callable[[Keyring], None]
) -> None:
    """Revoked while its row was on the way: the old row is neither used nor remembered."""
    secret = catalogue.add(make_key())
    catalogue.open.clear()
    opening = asyncio.create_task(keyring.open(secret))
    await _looked_up(catalogue, 1)
    catalogue.keys[digest(secret)] = make_key(enabled=False)
    forget(keyring)
    catalogue.open.set()
    with pytest.raises(InvalidKey):
        await opening
    with pytest.raises(InvalidKey):
        await keyring.open(secret)


async def test_a_lookup_that_failed_is_not_remembered(keyring: Keyring, catalogue: Catalogue) -> None:
    """The database was away: that says nothing about the key."""
    secret = catalogue.add(make_key())
    catalogue.away = True
    with pytest.raises(ServiceUnavailable):
        await keyring.open(secret)
    catalogue.away = False
    assert (await keyring.open(secret)).key_id == "key_1"


async def test_a_key_ends_at_its_time_though_it_is_known(keyring: Keyring, catalogue: Catalogue) -> None:
    """Expiry needs no announcement."""
    ended = catalogue.add(make_key(expires_at_ms=now_ms()))
    with pytest.raises(InvalidKey):
        await keyring.open(ended)
    ends = now_ms() + 50
    secret = catalogue.add(make_key("key_2", expires_at_ms=ends))
    while now_ms() < ends:
        with suppress(InvalidKey):  # it may end while it is opened
            await keyring.open(secret)
        await asyncio.sleep(0.005)
    with pytest.raises(InvalidKey):
        await keyring.open(secret)
    later = catalogue.add(make_key("key_3", expires_at_ms=now_ms() + 3_600_000))
    assert (await keyring.open(later)).key_id == "key_3"
