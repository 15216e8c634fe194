"""What befalls the ways to a vendor, as workers tell each other and the operator."""

from typing import Literal

import msgspec

__all__ = ["Change", "Kind", "WayHealth"]

Kind = Literal["opened", "half_open", "closed", "cooling", "parked", "returned"]


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A way's health has changed. `model` is None where it is about all that the credential serves; `until_ms` is when
    the way may be asked again, since 1970, None where nobody knows. `stamp` is the way's: see `stamp_of`."""

    channel_id: str
    credential_id: str
    kind: Kind
    reason: str
    model: str | None = None
    until_ms: int | None = None
    http_status: int | None = None
    stamp: str = ""


class WayHealth(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A channel with one of its credentials: how it is, over the workers that were asked. Times are since 1970."""

    channel_id: str
    credential_id: str
    stamp: str
    state: Literal["closed", "open", "half_open"] = "closed"
    open_until_ms: int | None = None
    open_reason: str | None = None
    parked: str | None = None  # why
    cooling: dict[str, int] = {}  # by model, until when
    in_flight: int = 0
    failures: int = 0  # of the last 30 s
    requests: int = 0  # that ended in the last 30 s
    first_content_ms: dict[str, int] = {}  # by model
    last_error: str | None = None
    last_error_at_ms: int | None = None
