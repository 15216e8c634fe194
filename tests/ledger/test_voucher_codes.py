"""Voucher codes: what people mistype is forgiven or refused, and never taken for another code."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.base.errors import InvalidField
from app.ledger.voucher_codes import hint_of, new_code, read_code

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PLACES = [at for at, letter in enumerate("TG-XXXXX-XXXXX-XXXXX-XXXXX") if letter == "X"]


def _is_refused(code: str) -> bool:
    try:
        read_code(code)
    except InvalidField as error:
        return error.param == "code"
    return False


def test_a_code_is_read_as_it_was_made() -> None:
    for _ in range(200):
        code = new_code()
        assert read_code(code) == code
        assert len(code) == 26 and code.startswith("TG-")


def test_codes_do_not_repeat() -> None:
    """90 random bits: a repetition among ten thousand means that they are not."""
    assert len({new_code() for _ in range(10_000)}) == 10_000


@pytest.mark.parametrize(
    "typed",
    [
        pytest.param(lambda code: code.lower(), id="small letters"),
        pytest.param(lambda code: f"  {code}\n", id="blanks around"),
        pytest.param(lambda code: code.replace("-", ""), id="no hyphens"),
        pytest.param(lambda code: code.replace("-", " "), id="blanks for hyphens"),
        pytest.param(lambda code: code.replace("0", "O").replace("1", "I"), id="O for 0, I for 1"),
        pytest.param(lambda code: code.replace("0", "o").replace("1", "l"), id="o for 0, l for 1"),
    ],
)
def test_ways_to_type_a_code_are_the_same_code(typed: object) -> None:
    assert callable(typed)
    for _ in range(50):
        code = new_code()
        assert read_code(typed(code)) == code


@given(place=st.sampled_from(_PLACES), letter=st.sampled_from(_ALPHABET))
def test_one_wrong_letter_is_seen(place: int, letter: str) -> None:
    code = new_code()
    wrong = code[:place] + letter + code[place + 1 :]
    assert wrong == code or _is_refused(wrong)


@given(places=st.lists(st.sampled_from(_PLACES), min_size=2, max_size=2, unique=True))
def test_two_letters_that_changed_places_are_seen(places: list[int]) -> None:
    code = new_code()
    letters = list(code)
    one, other = places
    letters[one], letters[other] = letters[other], letters[one]
    wrong = "".join(letters)
    assert wrong == code or _is_refused(wrong)


@pytest.mark.parametrize(
    "sent", ["", "TG-", "TG-00000", "sk-abc", "TG-UUUUU-UUUUU-UUUUU-UUUUU", "x" * 100_000, "é" * 22]
)
def test_what_is_no_code_is_refused(sent: str) -> None:
    assert _is_refused(sent)


def test_a_hint_gives_little_away() -> None:
    code = new_code()
    assert hint_of(code) == f"TG-…{code[-4:]}"
