"""A channel's credentials, as operators send and read them. What is sent replaces the list; one that stays keeps its
id, and with it its health and what it has used of its limits."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from app.base.crypto import Secret
from app.base.errors import InvalidField
from app.base.ids import new_id
from app.catalog.records import Credential, VendorLimits

__all__ = [
    "CredentialFields",
    "VendorLimitFields",
    "credentials_of",
    "show_credentials",
    "show_vendor_limits",
    "vendor_limits_of",
]

SecretText = Annotated[str, Meta(min_length=1, max_length=10_000)]

_HINT = 4
_HINTED_FROM = 12  # letters: the hint of a shorter secret would tell too much of it


class VendorLimitFields(msgspec.Struct, forbid_unknown_fields=True):
    """Requests and tokens a minute, and requests at the same time. Null or 0: no limit."""

    rpm: Annotated[int, Meta(ge=0, le=10_000_000)] | None = None
    tpm: Annotated[int, Meta(ge=0, le=1_000_000_000)] | None = None
    concurrency: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None


class CredentialFields(msgspec.Struct, forbid_unknown_fields=True):
    """With the `id` of one that is there, or with its secret, it is that one, and what is left out stays as it is."""

    id: str | UnsetType = UNSET
    secret: SecretText | UnsetType = UNSET
    name: Annotated[str, Meta(max_length=200)] | UnsetType = UNSET
    weight: Annotated[int, Meta(ge=1, le=1_000_000)] | UnsetType = UNSET
    limits: VendorLimitFields | None | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


def credentials_of(
    sent: Sequence[SecretText | CredentialFields], old: Sequence[Credential] = ()
) -> tuple[Credential, ...]:
    """The new list. Raises InvalidField."""
    made: list[Credential] = []
    for index, each in enumerate(sent):
        fields = CredentialFields(secret=each) if isinstance(each, str) else each
        credential = _credential(fields, old, f"credentials[{index}]")
        if any(credential.id == other.id or credential.secret == other.secret for other in made):
            raise InvalidField(f"credentials[{index}]", "is in the list twice")
        made.append(credential)
    return tuple(made)


def vendor_limits_of(sent: VendorLimitFields | None) -> VendorLimits:
    return VendorLimits(**{name: getattr(sent, name) or 0 for name in VendorLimits.__struct_fields__})


def show_vendor_limits(limits: VendorLimits) -> dict[str, int | None]:
    return {name: getattr(limits, name) or None for name in VendorLimits.__struct_fields__}


def show_credentials(credentials: Sequence[Credential]) -> list[dict[str, Any]]:
    """Everything but the secrets: of those the last letters."""
    return [
        {
            "id": each.id,
            "name": each.name,
            "hint": _hint(each.secret),
            "weight": each.weight,
            "limits": show_vendor_limits(each.limits),
            "enabled": each.enabled,
        }
        for each in credentials
    ]


def _credential(fields: CredentialFields, old: Sequence[Credential], path: str) -> Credential:
    credential = _known(fields, old, path) or Credential(id=new_id("crd"), secret=None)
    changes: dict[str, Any] = {
        name: sent for name in ("name", "weight", "enabled") if (sent := getattr(fields, name)) is not UNSET
    }
    if fields.secret is not UNSET:
        changes["secret"] = Secret(_checked_secret(fields.secret, path))
    if fields.limits is not UNSET:
        changes["limits"] = vendor_limits_of(fields.limits)
    return msgspec.structs.replace(credential, **changes)


def _known(fields: CredentialFields, old: Sequence[Credential], path: str) -> Credential | None:
    if fields.id is not UNSET:
        found = next((each for each in old if each.id == fields.id), None)
        if found is None:
            raise InvalidField(f"{path}.id", "is not one of this channel's credentials")
        return found
    if fields.secret is UNSET:
        raise InvalidField(f"{path}.secret", "is required, or the `id` of a credential that is there")
    return next((each for each in old if each.secret == Secret(fields.secret)), None)


def _checked_secret(secret: str, path: str) -> str:
    """It goes into a header."""
    if not secret.isascii() or not secret.isprintable() or secret != secret.strip():
        raise InvalidField(f"{path}.secret", "must be printable ASCII, with no space around it")
    return secret


def _hint(secret: Secret | None) -> str:
    text = "" if secret is None else secret.reveal()
    return f"…{text[-_HINT:]}" if len(text) >= _HINTED_FROM else "…"
