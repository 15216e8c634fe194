"""Texts that operators send: free ones, without the NUL that PostgreSQL can't keep, and idempotency keys."""

import re
from typing import Annotated

from litestar.params import Parameter
from msgspec import Meta

from app.base.errors import InvalidField

__all__ = ["WITHOUT_NUL", "IdempotencyHeader", "IdempotencyKey", "Memo", "idempotency_key"]

WITHOUT_NUL = r"^[^\x00]*$"
_KEY_MOST = 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

Memo = Annotated[str, Meta(max_length=1000, pattern=WITHOUT_NUL)]
IdempotencyKey = Annotated[str, Meta(min_length=1, max_length=_KEY_MOST)]
IdempotencyHeader = Annotated[str | None, Parameter(header="Idempotency-Key", required=False)]


def idempotency_key(in_body: str | None, in_header: str | None) -> str | None:
    """The key of a request that moves money, by which a repeat is told: the body's field, else the header; None where
    neither was sent. Raises InvalidField naming the one that is empty, too long or has control characters."""
    for field, key in (("idempotency_key", in_body), ("Idempotency-Key", in_header)):
        if key is not None and not (1 <= len(key) <= _KEY_MOST and _CONTROL.search(key) is None):
            raise InvalidField(field, f"must have from 1 to {_KEY_MOST} characters, none of them a control character")
    return in_header if in_body is None else in_body
