"""Signatures, as Standard Webhooks has them."""

import base64

from app.alerts.signature import new_webhook_secret, signed_headers


def test_the_example_that_the_libraries_share() -> None:
    """Secret, message and signature of the test that every Standard Webhooks library has."""
    headers = signed_headers(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1_614_265_330,
        b'{"test": 2432232314}',
    )

    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_new_secret_is_long_and_its_own() -> None:
    """At least 24 bytes, as the specification asks, behind the prefix that tells what it is."""
    first, second = new_webhook_secret(), new_webhook_secret()

    assert first != second
    assert first.startswith("whsec_")
    assert len(base64.b64decode(first.removeprefix("whsec_"), validate=True)) >= 24
