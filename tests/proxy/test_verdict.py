"""What a vendor's status means, and what of its words a customer may read."""

import msgspec
import pytest

from app.catalog.records import HeaderRules, Shaping
from app.proxy.relay.verdict import is_overflow, is_refusal, read_refusal, retry_after_ms
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


NOW_MS = 1_800_000_000_000  # Fri, 15 Jan 2027 08:00:00 GMT


@pytest.mark.parametrize(
    ("sent", "sent_ms", "expected_ms"),
    [
        pytest.param(None, None, None, id="nothing"),
        pytest.param("7", None, 7_000, id="seconds"),
        pytest.param(" 7 ", None, 7_000, id="blanks"),
        pytest.param("1.5", None, 1_500, id="part of a second"),
        pytest.param("0", None, 0, id="at once"),
        pytest.param("999999", None, 3_600_000, id="an hour at most"),
        pytest.param("Fri, 15 Jan 2027 08:00:30 GMT", None, 30_000, id="a date"),
        pytest.param("Friday, 15-Jan-27 08:00:30 GMT", None, 30_000, id="a date of RFC 850"),
        pytest.param("Fri, 15 Jan 2027 07:00:00 GMT", None, 0, id="a date gone by"),
        pytest.param("Sat, 15 Jan 2028 08:00:30 GMT", None, 3_600_000, id="a date far off"),
        pytest.param("Fri, 99 Jan 2027 08:00:30 GMT", None, None, id="no such day"),
        pytest.param("Fri, 15 Jan 99999 08:00:30 GMT", None, None, id="no such year"),
        pytest.param("7", "250", 250, id="milliseconds are finer"),
        pytest.param("7", "250.4", 250, id="part of a millisecond"),
        pytest.param("7", "soon", 7_000, id="milliseconds that make no sense"),
        pytest.param(None, "99999999", 3_600_000, id="an hour of milliseconds at most"),
        pytest.param("-1", None, None, id="negative"),
        pytest.param("1e3", None, None, id="no plain number"),
        pytest.param("inf", None, None, id="infinite"),
        pytest.param("\u0663", None, None, id="foreign digits"),
        pytest.param("soon", "soon", None, id="words"),
        pytest.param("", "", None, id="empty"),
    ],
)
def test_when_a_vendor_wants_to_be_asked_again(sent: str | None, sent_ms: str | None, expected_ms: int | None) -> None:
    """Its finest word that makes sense."""
    assert retry_after_ms(sent, sent_ms, NOW_MS) == expected_ms


def _refusal(message: str, code: str | None = None) -> bytes:
    return msgspec.json.encode({"error": {"message": message, "type": "invalid_request_error", "code": code}})


OVERFLOWS = {
    "openai": _refusal(
        "This model's maximum context length is 4097 tokens. However, your messages resulted in 5162 tokens.",
        "context_length_exceeded",
    ),
    "code_alone": _refusal("Too long.", "context_length_exceeded"),
    "anthropic": _refusal("prompt is too long: 213462 tokens > 200000 maximum"),
    "anthropic_with_answer": _refusal(
        "input length and `max_tokens` exceed context limit: 199000 + 20000 > 200000, decrease input length"
    ),
    "gemini": _refusal("The input token count (1234567) exceeds the maximum number of tokens allowed (1048576)."),
    "mistral": _refusal("Prompt contains 40000 tokens, too large for model with 32768 maximum context length"),
    "deepseek": _refusal("This model's maximum context length is 65536 tokens. However, you requested 70000 tokens"),
    "xai": _refusal("This model's maximum prompt length is 131072 but the request contains 537812 tokens."),
    "groq": _refusal("Please reduce the length of the messages or completion.", "context_length_exceeded"),
    "moonshot": _refusal("Invalid request: Your request exceeded model token limit: 8192"),
    "cohere": _refusal("too many tokens: the total number of tokens in the prompt cannot exceed 4081"),
    "bedrock": b'{"message": "Input is too long for requested model."}',
    "dashscope": _refusal("Range of input length should be [1, 30720]"),
    "llama.cpp": _refusal("the request exceeds the available context size. try increasing the context size"),
}


@pytest.mark.parametrize("status", [400, 413])
@pytest.mark.parametrize("vendor", OVERFLOWS)
def test_a_prompt_that_is_too_long_is_told_from_other_faults(vendor: str, status: int) -> None:
    """By what the vendors' documents and their users quote."""
    assert is_overflow(status, OVERFLOWS[vendor])


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(400, _refusal("max_tokens is too large: 5000. This model supports at most 4096"), id="answer"),
        pytest.param(400, _refusal("Invalid 'messages[0].content': string too long."), id="a string"),
        pytest.param(413, _refusal("Request too large for model on tokens per minute (TPM): Limit 6000"), id="tpm"),
        pytest.param(413, b"<html>413 Request Entity Too Large</html>", id="bytes"),
        pytest.param(429, _refusal("Too many tokens, please wait before trying again."), id="rate"),
        pytest.param(404, _refusal("maximum context length"), id="not found"),
        pytest.param(400, b"", id="nothing"),
    ],
)
def test_other_refusals_are_no_overflow(status: int, body: bytes) -> None:
    """A model with a longer window would not help."""
    assert not is_overflow(status, body)


def test_what_the_operator_adds_to_requests_is_never_told() -> None:
    shaping = Shaping(
        headers=HeaderRules(set={"x-auth": "Basic aHVzaDpodXNo"}, default={"x-region": "eu"}),
        organization="org-hush",
        project="proj-hush",
    )
    body = msgspec.json.encode({"error": {"message": "aHVzaDpodXNo of org-hush and proj-hush may not use eu"}})
    told = read_refusal(400, body, make_channel(shaping=shaping), "small").message
    assert told == "[redacted] of [organization] and [project] may not use eu"
