"""What an operator's change of a channel is called among its events: which fields, and never what is secret in them."""

from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.channel_events import Kind, add_event
from app.catalog.records import Channel, Credential

__all__ = ["changes_between", "note_changes"]

# Told with what they were and are; of all others only the name is told.
_TOLD = ("name", "priority", "weight", "enabled", "test_every_s")
_NAMED = ("provider", "base_url", "models", "costs", "timeouts", "limits", "shaping", "limit_field", "priced_fields")


def changes_between(old: Channel, new: Channel) -> list[tuple[Kind, str]]:
    """Pure: the events that lead from the one to the other, with their reasons."""
    found: list[tuple[Kind, str]] = []
    fields = [
        f"{name} from {_text(getattr(old, name))} to {_text(getattr(new, name))}"
        for name in _TOLD
        if getattr(old, name) != getattr(new, name)
    ]
    fields += [name for name in _NAMED if getattr(old, name) != getattr(new, name)]
    if [_open(each) for each in old.credentials] != [_open(each) for each in new.credentials]:
        fields.append("credentials")
    if fields:
        found.append(("changed", ", ".join(fields)))
    if new.draining and not old.draining:
        found.append(("draining", "it takes no new requests"))
    if new.enabled and ((old.draining and not new.draining) or not old.enabled):
        found.append(("resumed", "it takes requests again"))
    return found


async def note_changes(db: AsyncConnection, old: Channel, new: Channel) -> None:
    for kind, reason in changes_between(old, new):
        await add_event(db, new.id, kind, reason)


def _open(credential: Credential) -> tuple[object, ...]:
    secret = None if credential.secret is None else credential.secret.reveal()
    return credential.id, credential.name, credential.weight, credential.limits, credential.enabled, secret


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None else str(value)
