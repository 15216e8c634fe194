"""Signatures of alerts, as Standard Webhooks 1.0 has them (github.com/standard-webhooks/standard-webhooks, spec): the
symmetric scheme `v1`, HMAC-SHA256 of `id.timestamp.body`, so that the receiver's libraries can check them."""

import base64
import hashlib
import hmac
import secrets

__all__ = ["new_webhook_secret", "signed_headers"]

_PREFIX = "whsec_"
_SECRET_BYTES = 32


def new_webhook_secret() -> str:
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def signed_headers(secret: str, message_id: str, at_s: int, body: bytes) -> dict[str, str]:
    """The three headers of a message sent at `at_s`, in seconds since 1970 UTC. Its id is the same at every attempt."""
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    signature = hmac.digest(key, b"%b.%d.%b" % (message_id.encode(), at_s, body), hashlib.sha256)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }
