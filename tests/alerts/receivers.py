"""Receivers of webhooks: local servers that check the signature as the receiver's own library would."""

import base64
import hashlib
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.behaviours import says
from tests.upstreams import Behaviour, Request, Street, Vendor

__all__ = ["Receiver", "is_genuine", "receiver"]


def is_genuine(request: Request, secret: str) -> bool:
    """Standard Webhooks 1.0, by the text of its specification and none of our code."""
    message_id, sent_at = request.headers["webhook-id"], request.headers["webhook-timestamp"]
    signed = b".".join([message_id.encode(), sent_at.encode(), request.body])
    mac = hmac.new(base64.b64decode(secret.split("_", 1)[1]), signed, hashlib.sha256)
    return request.headers["webhook-signature"] == "v1," + base64.b64encode(mac.digest()).decode()


@dataclass
class Receiver:
    vendor: Vendor

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.vendor.port}/alerts?token=hook-token"

    @property
    def requests(self) -> list[Request]:
        return self.vendor.requests

    @property
    def kinds(self) -> list[Any]:
        return [request.json["type"] for request in self.vendor.requests]

    def then(self, *behaviours: Behaviour) -> None:
        self.vendor.then(*behaviours)


@contextmanager
def receiver(street: Street, behaviour: Behaviour | None = None) -> Iterator[Receiver]:
    vendor = street.open(behaviour or says(204))
    try:
        yield Receiver(vendor)
    finally:
        street.shut(vendor)
