"""What a vendor's status means, and what of its words a customer may read."""

import msgspec
import pytest

from app.proxy.relay.verdict import is_refusal, read_refusal, retry_after_s
from tests.proxy.makers import credential, make_channel

CHANNEL = make_channel(
    "chn_0123",
    name="Main East",
    base_url="https://eu.vendor.example:8443/v1",
    credentials=(credential("tok3n"), credential("sk-proj-AAAABBBBCCCC", "crd_2")),
    models={"small": "vendor-small-2025"},
)


def _message(text: str) -> str:
    return read_refusal(400, msgspec.json.encode({"error": {"message": text}}), CHANNEL, "small").message


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_fault_with_the_request_is_told(status: int) -> None:
    """Every other vendor would refuse it too."""
    assert is_refusal(status)


@pytest.mark.parametrize("status", [201, 301, 401, 402, 403, 405, 408, 409, 429, 500, 502, 503, 504, 529])
def test_anything_else_is_the_channels_trouble(status: int) -> None:
    """The operator's credential, its limits, the vendor's faults: another channel may do better."""
    assert not is_refusal(status)


@pytest.mark.parametrize(
    "secret",
    [
        "tok3n",
        "sk-proj-AAAABBBBCCCC",
        "sk-proj-AAAA****CCCC",
        "sk-another00000000",
        "eu.vendor.example:8443",
        "https://eu.vendor.example:8443/v1",
        "chn_0123",
        "Main East",
        "vendor-small-2025",
    ],
)
@pytest.mark.parametrize("sentence", ["{}", "Bad thing: {}.", "The model `{}` is unknown", '"{}" (see {})'])
def test_the_operators_secrets_are_scrubbed(secret: str, sentence: str) -> None:
    """Credentials, masked ones too, the channel's name, id and address, and the model's upstream name."""
    assert secret not in _message(sentence.replace("{}", secret))


def test_the_model_is_named_as_the_customer_knows_it() -> None:
    assert (
        _message("The model `vendor-small-2025` does not take pictures") == "The model `small` does not take pictures"
    )


def test_innocent_words_stay() -> None:
    """A channel's name inside another word is no leak, and the message is not torn apart."""
    channel = make_channel(name="main", models={"small": "tiny"})
    body = msgspec.json.encode({"error": {"message": "The domain and its remains are destiny"}})
    assert read_refusal(400, body, channel, "small").message == "The domain and its remains are destiny"


def test_code_and_param_are_the_vendors() -> None:
    """They help the customer to find the fault; they are scrubbed like the message."""
    error = {"message": "m", "code": "string_above_max_length", "param": "messages[0].tok3n"}
    refusal = read_refusal(422, msgspec.json.encode({"error": error}), CHANNEL, "small")
    assert (refusal.status, refusal.type) == (422, "invalid_request_error")
    assert (refusal.code, refusal.param) == ("string_above_max_length", "messages[0].[redacted]")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": "flat"}', "flat"),
        (b'{"message": "top"}', "top"),
        (b'{"error": {"message": 7, "code": 7, "param": []}}', "The request was refused."),
        (b'{"error": null}', "The request was refused."),
        (b"<html>", "The request was refused."),
        (b"[]", "The request was refused."),
        (b"\xff", "The request was refused."),
        (b"", "The request was refused."),
    ],
)
def test_whatever_a_vendor_says_there_is_a_message(body: bytes, message: str) -> None:
    """And a code, where it gives none that is a text."""
    refusal = read_refusal(400, body, CHANNEL, "small")
    assert (refusal.message, refusal.code, refusal.param) == (message, "invalid_value", None)


def test_a_long_message_is_cut() -> None:
    """Not through a secret: half of one would no longer be known as such."""
    assert len(_message("x " * 100_000)) <= 2000
    channel = make_channel(credentials=(credential("abcdefghijklmnopqrstuvwxyz"),))
    for length in range(1970, 2001):
        body = msgspec.json.encode({"message": "." * length + "abcdefghijklmnopqrstuvwxyz"})
        assert "abcd" not in read_refusal(400, body, channel, "small").message


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [(None, None), ("7", 7), ("0", 0), ("999999", 3600), ("-1", None), ("1.5", None), ("\u0663", None), ("soon", None)],
)
def test_retry_after_is_a_number_that_makes_sense(sent: str | None, seconds: int | None) -> None:
    """An hour at most; dates and nonsense are left out."""
    assert retry_after_s(sent) == seconds
