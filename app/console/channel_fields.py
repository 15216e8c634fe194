"""Channels, as operators send and read them: what they send becomes columns of the catalogue."""

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Meta, UnsetType

from app.base.clock import iso
from app.base.errors import InvalidField
from app.base.priced_fields import PRICED_FIELDS, Action, LimitField
from app.catalog.pricing import Prices, parse_prices, show_prices
from app.catalog.records import Channel, Credential, Shaping, Timeouts, VendorLimits
from app.console.credential_fields import (
    CredentialFields,
    SecretText,
    VendorLimitFields,
    credentials_of,
    show_credentials,
    show_vendor_limits,
    vendor_limits_of,
)
from app.console.shaping_fields import ShapingFields, check_shaping, shaping_of, show_shaping

__all__ = ["ChannelFields", "changed_columns", "costs_of", "new_columns", "show_channel"]

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Milliseconds = Annotated[int, Meta(ge=1, le=86_400_000)]

# As they are sent; the others of a channel's columns are made from what is sent.
_AS_SENT = ("name", "provider", "models", "priority", "weight", "enabled", "draining", "test_every_s", "limit_field")


class TimeoutFields(msgspec.Struct, forbid_unknown_fields=True):
    connect_ms: Milliseconds | UnsetType = UNSET
    first_token_ms: Milliseconds | None | UnsetType = UNSET
    idle_ms: Milliseconds | UnsetType = UNSET
    total_ms: Milliseconds | UnsetType = UNSET


class ChannelFields(msgspec.Struct, forbid_unknown_fields=True):
    """A new channel, or what changes of one. `limits` are those of each credential that has none of its own;
    `test_every_s` is how often it is tested while it serves, null only when asked to. `limit_field` is where its vendor
    reads the bound of an answer, null where the provider's does; `priced_fields` says what becomes of fields that
    have a price of their own, and replaces all that was said before."""

    name: Name | UnsetType = UNSET
    provider: str | UnsetType = UNSET
    base_url: Annotated[str, Meta(max_length=2000)] | None | UnsetType = UNSET
    credentials: Annotated[list[SecretText | CredentialFields], Meta(max_length=100)] | UnsetType = UNSET
    models: Annotated[dict[Name, Name], Meta(min_length=1, max_length=10_000)] | UnsetType = UNSET
    priority: Annotated[int, Meta(ge=-1_000_000, le=1_000_000)] | UnsetType = UNSET
    weight: Annotated[int, Meta(ge=0, le=1_000_000)] | UnsetType = UNSET
    costs: dict[str, Any] | None | UnsetType = UNSET
    timeouts: TimeoutFields | None | UnsetType = UNSET
    limits: VendorLimitFields | None | UnsetType = UNSET
    shaping: ShapingFields | None | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    draining: bool | UnsetType = UNSET
    test_every_s: Annotated[int, Meta(ge=10, le=86_400)] | None | UnsetType = UNSET
    limit_field: LimitField | None | UnsetType = UNSET
    priced_fields: dict[str, Action] | None | UnsetType = UNSET


def new_columns(fields: ChannelFields, default_urls: Mapping[str, str | None]) -> dict[str, Any]:
    """All columns of a new channel but its costs. Raises InvalidField."""
    for name in ("name", "provider", "models"):
        if getattr(fields, name) is UNSET:
            raise InvalidField(name, "is required")
    values = _columns(fields, default_urls, None)
    if "base_url" not in values:
        values["base_url"] = default_urls[values["provider"]]
        if values["base_url"] is None:
            raise InvalidField("base_url", f"is required: `{values['provider']}` has no address of its own")
    blank = {
        "credentials": (),
        "priority": 0,
        "weight": 1,
        "timeouts": msgspec.to_builtins(Timeouts()),
        "limits": msgspec.to_builtins(VendorLimits()),
        "shaping": Shaping(),
        "enabled": True,
        "draining": False,
        "test_every_s": None,
        "limit_field": None,
        "priced_fields": {},
    }
    return blank | values


def changed_columns(fields: ChannelFields, default_urls: Mapping[str, str | None], old: Channel) -> dict[str, Any]:
    """The columns that a change sets, but its costs. Raises InvalidField."""
    return _columns(fields, default_urls, old)


def costs_of(fields: ChannelFields) -> dict[str, Prices] | None:
    """By upstream name; None where they are left as they are. Raises InvalidField."""
    if fields.costs is UNSET:
        return None
    return {name: parse_prices(prices, f"costs.{name}") for name, prices in (fields.costs or {}).items()}


def show_channel(channel: Channel) -> dict[str, Any]:
    """Everything but the secrets."""
    return {
        "id": channel.id,
        "name": channel.name,
        "provider": channel.provider,
        "base_url": channel.base_url,
        "credentials": len(channel.credentials),
        "credential_list": show_credentials(channel.credentials),
        "models": channel.models,
        "priority": channel.priority,
        "weight": channel.weight,
        "costs": {name: show_prices(cost.prices) for name, cost in channel.costs.items()},
        "cost_versions": {name: cost.version for name, cost in channel.costs.items()},
        "timeouts": msgspec.to_builtins(channel.timeouts),
        "limits": show_vendor_limits(channel.limits),
        "shaping": show_shaping(channel.shaping),
        "enabled": channel.enabled,
        "draining": channel.draining,
        "test_every_s": channel.test_every_s,
        "limit_field": channel.limit_field,
        "priced_fields": channel.priced_fields,
        "created_at": iso(channel.created_at_ms),
    }


def _columns(fields: ChannelFields, default_urls: Mapping[str, str | None], old: Channel | None) -> dict[str, Any]:
    values: dict[str, Any] = {name: sent for name in _AS_SENT if (sent := getattr(fields, name)) is not UNSET}
    if "provider" in values and values["provider"] not in default_urls:
        raise InvalidField("provider", f"must be one of {', '.join(default_urls)}")
    if fields.base_url is not UNSET and fields.base_url is not None:
        values["base_url"] = _checked_url(fields.base_url)
    if fields.timeouts is not UNSET:
        values["timeouts"] = _timeouts(fields.timeouts, old.timeouts if old else Timeouts())
    if fields.limits is not UNSET:
        values["limits"] = msgspec.to_builtins(vendor_limits_of(fields.limits))
    if fields.priced_fields is not UNSET:
        values["priced_fields"] = _known_priced(fields.priced_fields or {})
    credentials: tuple[Credential, ...] = old.credentials if old else ()
    shaping = old.shaping if old else Shaping()
    if fields.credentials is not UNSET:
        credentials = values["credentials"] = credentials_of(fields.credentials, credentials)
    if fields.shaping is not UNSET:
        shaping = values["shaping"] = shaping_of(fields.shaping, shaping)
    check_shaping(shaping, has_credentials=bool(credentials))
    return values


def _timeouts(sent: TimeoutFields | None, old: Timeouts) -> dict[str, Any]:
    """Those that are left out stay; null puts all back."""
    return (
        msgspec.to_builtins(Timeouts()) if sent is None else {**msgspec.to_builtins(old), **msgspec.to_builtins(sent)}
    )


def _known_priced(sent: dict[str, Action]) -> dict[str, Action]:
    for name in sent:
        if name not in PRICED_FIELDS:
            known = ", ".join(PRICED_FIELDS)
            raise InvalidField(f"priced_fields.{name}", f"is not a field with a price of its own; those are {known}")
    return sent


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_sound = False
    if not is_sound or parts.query or parts.fragment or " " in url or not url.isprintable():
        raise InvalidField("base_url", "must be an http or https address without a query")
    if parts.username or parts.password:
        raise InvalidField("base_url", "must not carry a user or a password; use `credentials`")
    return url
