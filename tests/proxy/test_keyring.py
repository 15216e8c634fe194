"""The keyring: junk never reaches the catalogue, a key is looked up once, and a change is never missed."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from app.base.clock import now_ms
from app.base.errors import Forbidden, InvalidKey, RateLimited, ServiceUnavailable
from app.base.guesses import Guesses
from app.base.ids import digest, new_key
from app.base.limits import Limits
from app.catalog.records import Account, Key
from app.proxy.access import Keyring
from app.proxy.records import Caller
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
    return Keyring(catalogue, 4, Guesses())


async def enter(keyring: Keyring, secret: str) -> Caller:
    return await keyring.enter(secret, "192.0.2.1", "chat")


async def _looked_up(catalogue: Catalogue, times: int) -> None:
    while catalogue.lookups < times:
        await asyncio.sleep(0)


async def test_a_key_becomes_a_caller(keyring: Keyring, catalogue: Catalogue) -> None:
    """Account, limits and models are the key's; the second use asks nobody."""
    secret = catalogue.add(make_key(limits=Limits(rpm=3, tpm=4, concurrency=5), models=("small",)))
    caller = await enter(keyring, secret)
    assert (caller.account_id, caller.key_id) == ("acc_1", "key_1")
    assert caller.limits == Limits(rpm=3, tpm=4, concurrency=5)
    assert caller.models is not None and "small" in caller.models and "large" not in caller.models
    assert await enter(keyring, secret) is caller
    assert catalogue.lookups == 1


@pytest.mark.parametrize("junk", ["", "sk-", "sk-" + "a" * 49, "sk-live-1234", "Bearer", "sk-" + "é" * 49])
async def test_junk_is_refused_without_a_lookup(keyring: Keyring, catalogue: Catalogue, junk: str) -> None:
    """The checksum is in the key: guessing costs the database nothing."""
    with pytest.raises(InvalidKey):
        await enter(keyring, junk)
    assert catalogue.lookups == 0


async def test_an_unknown_key_is_asked_for_once(keyring: Keyring, catalogue: Catalogue) -> None:
    """A key with a good checksum that nobody knows: the answer is remembered."""
    secret = new_key()
    for _ in range(3):
        with pytest.raises(InvalidKey):
            await enter(keyring, secret)
    assert catalogue.lookups == 1


async def test_first_uses_at_once_are_one_lookup(keyring: Keyring, catalogue: Catalogue) -> None:
    """A thousand requests that arrive with a fresh key are not a thousand queries."""
    secret = catalogue.add(make_key())
    callers = await asyncio.gather(*(enter(keyring, secret) for _ in range(1000)))
    assert catalogue.lookups == 1
    assert len({id(caller) for caller in callers}) == 1


async def test_a_first_user_who_leaves_takes_nobody_along(keyring: Keyring, catalogue: Catalogue) -> None:
    """The one that started the lookup is cancelled: those who wait for it still get their answer."""
    secret = catalogue.add(make_key())
    catalogue.open.clear()
    first = asyncio.create_task(enter(keyring, secret))
    await _looked_up(catalogue, 1)
    second = asyncio.create_task(enter(keyring, secret))
    await asyncio.sleep(0)
    first.cancel()
    catalogue.open.set()
    assert (await second).key_id == "key_1"
    assert catalogue.lookups == 1


async def test_a_disabled_key_is_refused(keyring: Keyring, catalogue: Catalogue) -> None:
    """As if it did not exist; enabled again, it works at its next use after the announcement."""
    secret = catalogue.add(make_key(enabled=False))
    with pytest.raises(InvalidKey):
        await enter(keyring, secret)
    catalogue.keys[digest(secret)] = make_key()
    keyring.forget("key_1")
    assert (await enter(keyring, secret)).key_id == "key_1"


@pytest.mark.parametrize("forget", [lambda keyring: keyring.forget("key_1"), Keyring.forget_all])
async def test_a_revoked_key_is_read_again(
    keyring: Keyring, catalogue: Catalogue, forget: Callable[[Keyring], None]
) -> None:
    """After the announcement, or when announcements may have been missed, memory is not trusted."""
    secret = catalogue.add(make_key())
    await enter(keyring, secret)
    catalogue.keys[digest(secret)] = make_key(enabled=False)
    assert (await enter(keyring, secret)).key_id == "key_1", "nobody has said so yet"
    forget(keyring)
    with pytest.raises(InvalidKey):
        await enter(keyring, secret)


async def test_other_keys_stay_known(keyring: Keyring, catalogue: Catalogue) -> None:
    """A change of one key is no reason to look all others up again."""
    secrets = [catalogue.add(make_key(f"key_{i}")) for i in (1, 2)]
    for secret in secrets:
        await enter(keyring, secret)
    keyring.forget("key_1")
    await enter(keyring, secrets[1])
    assert catalogue.lookups == 2


async def test_an_account_that_changed_is_read_again(keyring: Keyring, catalogue: Catalogue) -> None:
    """Another price book applies to every key of the account at once; keys of others stay known."""
    own = [catalogue.add(make_key(f"key_{i}")) for i in (1, 2)]
    other = catalogue.add(make_key("key_3", account_id="acc_2"))
    assert [(await enter(keyring, secret)).book for secret in (*own, other)] == ["default"] * 3
    for number, secret in enumerate(own, 1):
        catalogue.keys[digest(secret)] = make_key(f"key_{number}", book="resellers")
    keyring.forget_account("acc_1")
    assert [(await enter(keyring, secret)).book for secret in (*own, other)] == ["resellers", "resellers", "default"]
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
    opening = asyncio.create_task(enter(keyring, secret))
    await _looked_up(catalogue, 1)
    catalogue.keys[digest(secret)] = make_key(enabled=False)
    forget(keyring)
    catalogue.open.set()
    with pytest.raises(InvalidKey):
        await opening
    with pytest.raises(InvalidKey):
        await enter(keyring, secret)


async def test_a_lookup_that_failed_is_not_remembered(keyring: Keyring, catalogue: Catalogue) -> None:
    """The database was away: that says nothing about the key."""
    secret = catalogue.add(make_key())
    catalogue.away = True
    with pytest.raises(ServiceUnavailable):
        await enter(keyring, secret)
    catalogue.away = False
    assert (await enter(keyring, secret)).key_id == "key_1"


async def test_a_key_ends_at_its_time_though_it_is_known(keyring: Keyring, catalogue: Catalogue) -> None:
    """Expiry needs no announcement."""
    ended = catalogue.add(make_key(expires_at_ms=now_ms()))
    with pytest.raises(InvalidKey):
        await enter(keyring, ended)
    ends = now_ms() + 50
    secret = catalogue.add(make_key("key_2", expires_at_ms=ends))
    while now_ms() < ends:
        with suppress(InvalidKey):  # it may end while it is opened
            await enter(keyring, secret)
        await asyncio.sleep(0.005)
    with pytest.raises(InvalidKey):
        await enter(keyring, secret)
    later = catalogue.add(make_key("key_3", expires_at_ms=now_ms() + 3_600_000))
    assert (await enter(keyring, later)).key_id == "key_3"


class Hands:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def strict(catalogue: Catalogue, hands: Hands) -> Keyring:
    """Three misses from one place, one more a second."""
    return Keyring(catalogue, 4, Guesses(burst=3, per_second=1, clock=hands))


async def _missed(keyring: Keyring, address: str, secret: str = "") -> str:
    """What is said to a key that nobody knows."""
    with pytest.raises((InvalidKey, RateLimited)) as refusal:
        await keyring.enter(secret or new_key(), address, "chat")
    return refusal.value.code


async def test_who_guesses_is_stopped_before_any_lookup(strict: Keyring, catalogue: Catalogue, hands: Hands) -> None:
    """Keys with good checksums that nobody knows: a few are looked up, then none until time has passed."""
    said = [await _missed(strict, "192.0.2.1") for _ in range(10)]
    assert said == ["invalid_api_key"] * 3 + ["rate_limit_exceeded"] * 7
    assert catalogue.lookups == 3
    with pytest.raises(RateLimited) as refusal:
        await strict.enter(new_key(), "192.0.2.1", "chat")
    wait_ms = int(dict(refusal.value.headers)[b"retry-after-ms"])
    hands.now_s += wait_ms / 1000
    assert await _missed(strict, "192.0.2.1") == "invalid_api_key", "Retry-After is exact"
    assert catalogue.lookups == 4


@pytest.mark.parametrize("junk", ["", "sk-", "nonsense"])
async def test_junk_counts_as_guesses_too(strict: Keyring, catalogue: Catalogue, junk: str) -> None:
    """It costs nothing to refuse, and says as much about its sender."""
    said = [await _missed(strict, "192.0.2.1", junk or " ") for _ in range(4)]
    assert said == ["invalid_api_key"] * 3 + ["rate_limit_exceeded"]
    assert catalogue.lookups == 0


@pytest.mark.parametrize(
    ("first", "second", "is_one_place"),
    [
        pytest.param("192.0.2.1", "192.0.2.2", False, id="another address"),
        pytest.param("192.0.2.1", "::ffff:192.0.2.1", True, id="the same, inside IPv6"),
        pytest.param("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True, id="the same /64"),
        pytest.param("2001:db8::1", "2001:db8:0:1::1", False, id="the /64 beside it"),
        pytest.param("", "nowhere", True, id="all that is no address"),
    ],
)
async def test_a_place_is_an_address_or_a_64(strict: Keyring, first: str, second: str, is_one_place: bool) -> None:
    """Whoever has a /64 has 2^64 addresses to guess from."""
    for _ in range(3):
        await _missed(strict, first)
    assert (await _missed(strict, second) == "rate_limit_exceeded") is is_one_place


async def test_good_keys_are_let_in_beside_a_guesser(strict: Keyring, catalogue: Catalogue) -> None:
    """From the same address: one that is known, also when it has to be read again; one never seen has to wait."""
    known, fresh = catalogue.add(make_key()), catalogue.add(make_key("key_2"))
    await strict.enter(known, "192.0.2.1", "chat")
    for _ in range(4):
        await _missed(strict, "192.0.2.1")
    assert (await strict.enter(known, "192.0.2.1", "chat")).key_id == "key_1"
    strict.forget_all()
    assert (await strict.enter(known, "192.0.2.1", "chat")).key_id == "key_1"
    assert await _missed(strict, "192.0.2.1", fresh) == "rate_limit_exceeded"
    assert (await strict.enter(fresh, "192.0.2.9", "chat")).key_id == "key_2"


async def test_many_good_keys_from_one_place_wait_for_each_other(strict: Keyring, catalogue: Catalogue) -> None:
    """A reseller's whole office after a restart: more first uses at once than there are misses left, all let in."""
    secrets = [catalogue.add(make_key(f"key_{number}")) for number in range(50)]
    catalogue.open.clear()
    entering = [asyncio.create_task(strict.enter(secret, "192.0.2.1", "chat")) for secret in secrets]
    await _looked_up(catalogue, 3)
    for _ in range(10):
        await asyncio.sleep(0)
    assert catalogue.lookups == 3, "no more at once than may miss"
    entering[0].cancel()
    entering[-1].cancel()
    catalogue.open.set()
    callers = await asyncio.gather(*entering, return_exceptions=True)
    assert [caller.key_id for caller in callers[1:-1]] == [f"key_{number}" for number in range(1, 49)]


async def test_a_crowd_of_guesses_at_once_is_a_few_lookups(strict: Keyring, catalogue: Catalogue) -> None:
    """They do not slip through before the first has missed."""
    said = await asyncio.gather(*(_missed(strict, "192.0.2.1") for _ in range(200)))
    assert catalogue.lookups == 3
    assert sorted(said) == ["invalid_api_key"] * 3 + ["rate_limit_exceeded"] * 197


async def test_a_lookup_that_failed_is_no_miss(strict: Keyring, catalogue: Catalogue) -> None:
    """The database was away: whoever asked has not guessed."""
    secret = catalogue.add(make_key())
    catalogue.away = True
    for _ in range(5):
        with pytest.raises(ServiceUnavailable):
            await strict.enter(secret, "192.0.2.1", "chat")
    catalogue.away = False
    assert (await strict.enter(secret, "192.0.2.1", "chat")).key_id == "key_1"


async def test_a_key_that_was_revoked_is_no_guess(strict: Keyring, catalogue: Catalogue) -> None:
    """Its program may ask on and on: that costs one look-up, and its neighbours nothing."""
    secret, fresh = catalogue.add(make_key()), catalogue.add(make_key("key_2"))
    await strict.enter(secret, "192.0.2.1", "chat")
    catalogue.keys[digest(secret)] = make_key(enabled=False)
    strict.forget("key_1")
    said = [await _missed(strict, "192.0.2.1", secret) for _ in range(50)]
    assert said == ["invalid_api_key"] * 50
    assert catalogue.lookups == 2
    assert (await strict.enter(fresh, "192.0.2.1", "chat")).key_id == "key_2"


async def test_places_are_forgotten_before_they_fill_the_memory(catalogue: Catalogue, hands: Hands) -> None:
    """The one that was quiet for longest first."""
    keyring = Keyring(catalogue, 4, Guesses(burst=1, per_second=1, clock=hands, places_most=2))
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        assert await _missed(keyring, address) == "invalid_api_key"
    assert await _missed(keyring, "192.0.2.3") == "rate_limit_exceeded"
    assert await _missed(keyring, "192.0.2.1") == "invalid_api_key"


def _member(account_id: str, **fields: Any) -> Account:
    return Account(id=account_id, name=account_id, book="default", created_at_ms=0, **fields)


async def test_a_member_is_a_caller_whose_parent_pays(keyring: Keyring, catalogue: Catalogue) -> None:
    """Money and its slots are the payer's; the receipts say whose key it was."""
    chain = (_member("acc_1", parent_id="acc_0", wallet="shared"), _member("acc_0"))
    caller = await enter(keyring, catalogue.add(make_key(chain=chain)))
    assert (caller.account_id, caller.slots.account_id) == ("acc_0", "acc_0")
    assert (caller.own_id, caller.member_id) == ("acc_1", "acc_1")
    alone = await enter(keyring, catalogue.add(make_key("key_2", chain=chain[1:], account_id="acc_0")))
    assert (alone.account_id, alone.own_id, alone.member_id) == ("acc_0", "acc_0", None)


@pytest.mark.parametrize(
    ("forget", "lookups"),
    [
        pytest.param(lambda keyring: keyring.forget_account("acc_1"), 3, id="its own account"),
        pytest.param(lambda keyring: keyring.forget_account("acc_0"), 3, id="the account that pays"),
        pytest.param(lambda keyring: keyring.forget_account("acc_7"), 2, id="another account"),
        pytest.param(lambda keyring: keyring.forget_book("default"), 4, id="a book of both"),
        pytest.param(lambda keyring: keyring.forget_book("resellers"), 3, id="the payer's book"),
    ],
)
async def test_what_changes_above_is_read_again(
    keyring: Keyring, catalogue: Catalogue, forget: Callable[[Keyring], None], lookups: int
) -> None:
    """Limits of every account in the chain count, and so do those that its price book gives it."""
    above = msgspec.structs.replace(_member("acc_0"), book="resellers")
    member = catalogue.add(make_key(chain=(_member("acc_1", parent_id="acc_0", wallet="shared"), above)))
    other = catalogue.add(make_key("key_2", account_id="acc_2", chain=(_member("acc_2"),)))
    for _ in range(2):
        for secret in (member, other):
            await enter(keyring, secret)
        if catalogue.lookups == 2:
            forget(keyring)
    assert catalogue.lookups == lookups


async def test_uses_are_noted_where_a_key_was_let_in(catalogue: Catalogue) -> None:
    """Not where it was refused: by its scopes, its networks or its end."""
    uses: list[tuple[str, str]] = []
    keyring = Keyring(catalogue, 4, Guesses(), lambda *use: uses.append(use))
    good = catalogue.add(make_key(allowed_cidrs=("192.0.2.0/24",), scopes=("chat",)))
    ended = catalogue.add(make_key("key_2", expires_at_ms=1))
    await keyring.enter(good, "192.0.2.1", "chat")
    await keyring.enter(good, "192.0.2.2", "chat")
    for secret, address, scope in ((good, "198.51.100.1", "chat"), (good, "192.0.2.1", "billing"), (ended, "", "chat")):
        with suppress(InvalidKey, Forbidden):
            await keyring.enter(secret, address, scope)
    assert uses == [("key_1", "192.0.2.1"), ("key_1", "192.0.2.2")]
