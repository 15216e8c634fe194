"""Sealing: only the same key and the same context open what was sealed, and no repr gives a secret away."""

import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.base.crypto import Sealer, Secret, UnsealError


@given(plain=st.binary(max_size=200), context=st.text(max_size=40), key=st.text(min_size=1, max_size=40))
def test_what_is_sealed_can_be_opened(plain: bytes, context: str, key: str) -> None:
    """By another sealer with the same key: after a restart, or on another worker."""
    assert Sealer(key).open(Sealer(key).seal(plain, context), context) == plain


def test_nothing_of_the_secret_shows() -> None:
    """Two seals of the same secret have nothing in common: the nonce is fresh each time."""
    sealer = Sealer("k")
    sealed = [sealer.seal(b"sk-vendor-secret", "chn_1") for _ in range(2)]
    assert sealed[0] != sealed[1]
    assert all(b"vendor" not in each for each in sealed)


def test_another_key_does_not_open_it() -> None:
    """And the error says which variable to look at."""
    with pytest.raises(UnsealError, match="TOLLGATE_SECRET_KEY"):
        Sealer("other").open(Sealer("key").seal(b"secret", "chn_1"), "chn_1")


def test_a_sealed_text_cannot_be_moved_to_another_row() -> None:
    """One channel's credential, copied into another's row, does not open there."""
    sealer = Sealer("key")
    with pytest.raises(UnsealError):
        sealer.open(sealer.seal(b"secret", "chn_1"), "chn_2")


@pytest.mark.parametrize("place", [0, 11, 12, -1])
def test_an_altered_text_is_refused(place: int) -> None:
    """Nonce, cipher text or tag: one bit is enough."""
    sealer = Sealer("key")
    sealed = bytearray(sealer.seal(b"secret", "chn_1"))
    sealed[place] ^= 1
    with pytest.raises(UnsealError):
        sealer.open(bytes(sealed), "chn_1")


@pytest.mark.parametrize("sealed", [b"", b"short", b"x" * 12, b"x" * 27])
def test_a_text_that_was_cut_is_refused(sealed: bytes) -> None:
    """A row that lost its end is an UnsealError like any other."""
    with pytest.raises(UnsealError):
        Sealer("key").open(sealed, "chn_1")


def test_a_secret_is_not_printed_by_accident() -> None:
    """Neither alone nor inside something else, nor in a traceback; only `reveal` shows it."""
    secret = Secret("sk-vendor")
    try:
        raise ValueError([secret])
    except ValueError:
        shown = traceback.format_exc()
    for text in (repr(secret), str(secret), f"{secret}", repr({"key": (secret,)}), shown):
        assert "vendor" not in text
    assert secret.reveal() == "sk-vendor"
