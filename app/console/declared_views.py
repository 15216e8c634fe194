"""Objects of the catalogue, flat, and what differs between two of them. Secrets are compared, and never told."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from app.base.crypto import Secret
from app.catalog.records import Channel
from app.console.channel_fields import show_channel
from app.console.shaping_fields import MASK

__all__ = ["FieldChange", "View", "channel_view", "differences", "view"]

View = dict[str, Any]  # by the path of each field

# Made, not set: ids, times and versions.
_MADE = frozenset({"id", "name", "created_at", "price_version", "price_versions", "cost_versions"})


class FieldChange(msgspec.Struct, frozen=True):
    """None: not set."""

    field: str
    now: Any
    then: Any


def view(shown: Mapping[str, Any]) -> View:
    """Of an object, as the operator API shows it."""
    return dict(_flat({name: value for name, value in shown.items() if name not in _MADE}))


def channel_view(channel: Channel) -> View:
    """With its secrets, so that a change of one is seen."""
    shown = show_channel(channel)
    del shown["credentials"]
    listed = shown.pop("credential_list")
    flat = view(shown)
    for place, (credential, fields) in enumerate(zip(channel.credentials, listed, strict=True)):
        at = f"credentials[{place}]"
        flat[f"{at}.secret"] = credential.secret
        flat |= {f"{at}.{path}": value for path, value in view({**fields, "label": fields["name"] or None}).items()}
    headers, shaping = channel.shaping.headers, channel.shaping
    for kind in ("set", "default"):
        for name, text in getattr(headers, kind).items():
            flat[f"shaping.headers.{kind}.{name}"] = Secret(text)
    for path, secret in (
        ("shaping.proxy", shaping.proxy),
        ("shaping.tls.ca_pem", shaping.tls.ca_pem),
        ("shaping.tls.identity_pem", shaping.tls.identity_pem),
    ):
        flat[path] = None if secret is None else Secret(secret)
    return flat


def differences(now: View, then: View) -> tuple[FieldChange, ...]:
    """What is set in neither is no difference."""
    return tuple(
        FieldChange(path, *_told(now.get(path), then.get(path)))
        for path in {**now, **then}
        if now.get(path) != then.get(path)
    )


def _told(now: Any, then: Any) -> tuple[Any, Any]:
    both = isinstance(now, Secret) and isinstance(then, Secret)
    return (
        MASK if isinstance(now, Secret) else now,
        f"{MASK} (changed)" if both else MASK if isinstance(then, Secret) else then,
    )


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Lists are one value; what is empty is not set."""
    for name, each in value.items():
        if isinstance(each, Mapping):
            yield from _flat(each, f"{prefix}{name}.")
        elif each not in (None, (), [], ""):
            yield f"{prefix}{name}", list(each) if isinstance(each, tuple) else each
