"""Ids sort by the time they were made; keys carry a checksum that no slip of one letter survives."""

import hashlib
import os
import random
import string

from hypothesis import given
from hypothesis import strategies as st

from app.base.ids import digest, hint, is_wellformed_key, made_at_ms, new_id, new_key, new_request_id, shard_of

_LETTERS = string.ascii_letters + string.digits


def test_a_fresh_key_is_well_formed() -> None:
    """52 characters, all of them safe in a header, a URL and a shell."""
    keys = {new_key() for _ in range(200)}
    assert len(keys) == 200
    for key in keys:
        assert is_wellformed_key(key)
        assert len(key) == 52
        assert set(key.removeprefix("sk-")) <= set(_LETTERS)


def test_every_change_of_one_letter_is_caught() -> None:
    """All 49 letters, each by all 61 others: the checksum knows."""
    key = new_key()
    for place in range(3, len(key)):
        for letter in _LETTERS:
            changed = key[:place] + letter + key[place + 1 :]
            assert is_wellformed_key(changed) == (changed == key)


def test_swapped_neighbours_are_caught() -> None:
    """The other slip that people make."""
    key = new_key()
    for place in range(3, len(key) - 1):
        swapped = key[:place] + key[place + 1] + key[place] + key[place + 2 :]
        assert is_wellformed_key(swapped) == (swapped == key)


@given(junk=st.text(max_size=60) | st.text(_LETTERS, min_size=49, max_size=49).map("sk-".__add__))
def test_junk_is_no_key(junk: str) -> None:
    """Random letters pass once in four billion tries; nothing makes the check raise."""
    assert not is_wellformed_key(junk)


def test_a_key_with_something_around_it_is_no_key() -> None:
    key = new_key()
    for other in (key + "\n", " " + key, key + "a", key[:-1], key.upper(), "SK-" + key[3:], "pk-" + key[3:]):
        assert not is_wellformed_key(other)


def test_a_hint_shows_both_ends() -> None:
    """Enough to recognise a key by, and too little to use."""
    key = new_key()
    assert hint(key) == f"{key[:5]}…{key[-4:]}"
    assert hint("sk-abcdefghijklmnopqrstuvwxyz") == "sk-ab…wxyz"


def test_only_the_hash_of_a_secret_is_kept() -> None:
    assert digest("sk-x") == hashlib.sha256(b"sk-x").digest()


def test_ids_sort_by_their_time() -> None:
    """Of any two made in different milliseconds, the later one sorts behind: pages and indexes rely on it."""
    made: list[str] = []
    while len({made_at_ms(each) for each in made}) < 4:
        made.append(new_id("acc"))
    times = [made_at_ms(each) for each in sorted(made)]
    assert times == sorted(made_at_ms(each) or 0 for each in made)
    assert len(set(made)) == len(made)


def test_nobody_can_tell_the_next_id() -> None:
    """Its random half is the system's, whatever state Python's own generator is in, and another one in a child."""
    ids = []
    for _ in range(2):
        random.seed(7)
        ids.append([new_id("req")[-16:] for _ in range(1000)])
    assert len({*ids[0], *ids[1]}) == 2000
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, new_id("req")[-16:].encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 16).decode() != new_id("req")[-16:]


def test_an_id_says_when_it_was_made() -> None:
    """Ours do; anything else says nothing."""
    assert new_request_id().startswith("req_")
    assert made_at_ms("req_" + f"{1_700_000_000_123:012x}" + "0" * 16) == 1_700_000_000_123
    for other in ("", "req_", "req_12", "req_" + "z" * 28, new_request_id() + "0"):
        assert made_at_ms(other) is None


@given(account=st.text(), shards=st.integers(1, 1024))
def test_an_account_stays_on_its_shard(account: str, shards: int) -> None:
    """Its shard follows from its id alone."""
    assert 0 <= shard_of(account, shards) < shards
    assert shard_of(account, shards) == shard_of(account, shards)


def test_accounts_spread_over_the_shards() -> None:
    """No shard of 16 is left out by a thousand accounts."""
    assert {shard_of(new_id("acc"), 16) for _ in range(1000)} == set(range(16))
