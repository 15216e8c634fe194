"""Where a key's requests for a model would go, and why: the catalogue, what the workers know of the ways, and the
vendors' limits, joined. Nothing is taken, and no vendor is asked."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import redis.asyncio as redis
from redis.exceptions import RedisError

from app.base.clock import iso, now_ms
from app.base.crypto import Sealer
from app.base.database import Database
from app.base.errors import NotFound, UnknownModel
from app.base.ids import digest, is_wellformed_key
from app.base.names import Names
from app.catalog.keys import find_key, key_of_secret
from app.catalog.lineage import chain_of
from app.catalog.records import Channel, Key, Model
from app.catalog.snapshot import Snapshot, load_snapshot
from app.proxy.dispatch import Health, read_health
from app.proxy.dispatch.choice import Candidate, Need, conversation_key
from app.proxy.dispatch.explain import Verdict, adopt, explain
from app.proxy.dispatch.plan import seat_at
from app.proxy.dispatch.table import make_table
from app.quota.seats import Seats

__all__ = ["Signpost"]

# What costs are estimated for.
_NEED = Need(1_000, 500)


class Signpost:
    def __init__(self, database: Database, sealer: Sealer, client: redis.Redis, seats: Seats) -> None:
        self._database = database
        self._sealer = sealer
        self._client = client
        self._seats = seats

    async def explain(self, key: str, model_name: str, conversation: str | None = None) -> dict[str, Any]:
        """`key` is an id, or a secret, which is looked up by its hash. Raises NotFound, UnknownModel."""
        async with self._database.read() as db:
            found = await (key_of_secret(db, digest(key)) if is_wellformed_key(key) else find_key(db, key))
            if found is None:
                raise NotFound("There is no such key.")
            payer = (found.chain or await chain_of(db, found.account_id))[-1]
        snapshot = await load_snapshot(self._database, self._sealer)
        model = snapshot.models.get(model_name)
        if model is None:
            raise UnknownModel(model_name)
        health = Health()
        health.reconcile(each for each in snapshot.channels if each.enabled)
        try:
            adopt(health, await read_health(self._client))
            is_live = True
        except (RedisError, OSError):
            is_live = False
        channels = snapshot.routes[model_name]
        named = conversation_key(payer.id, conversation, ())
        table, verdicts = explain(health, model, channels, _NEED, named, await self._full(health, model, channels))
        verdicts += _left_out(snapshot, model_name)
        return {
            "key_id": found.id,
            "model": model_name,
            "problem": _problem(snapshot, found, model),
            "strategy": model.routing.strategy,
            "sticky": table.sticky,
            "conversation": conversation,
            "estimated_for": {"input_tokens": _NEED.input_tokens, "output_tokens": _NEED.output_tokens},
            "health_known": is_live,
            "fallbacks": list(model.fallbacks),
            "ways": [msgspec.to_builtins(verdict) for verdict in verdicts],
        }

    async def _full(self, health: Health, model: Model, channels: Sequence[Channel]) -> dict[str, int]:
        """How long vendors' limits hold ways back, by their names as seats."""
        found: dict[str, int] = {}
        for candidate in _limited(make_table(model, channels, health).candidates):
            seat = seat_at(candidate, "", _NEED)
            found[seat.credential] = await self._seats.look(seat)
        return found


def _limited(candidates: Sequence[Candidate]) -> Iterator[Candidate]:
    return (each for each in candidates if each.way.is_limited)


def _problem(snapshot: Snapshot, key: Key, model: Model) -> str | None:
    """Why the key's requests for the model would be refused before they are routed."""
    if not key.enabled:
        return "the key is disabled"
    if key.expires_at_ms is not None and key.expires_at_ms <= now_ms():
        return f"the key expired at {iso(key.expires_at_ms)}"
    if key.models is not None and model.name not in Names(key.models):
        return "the key may not use this model"
    if snapshot.sale(model.name, key.book) is None:
        return f"the model is not on sale in the price book `{key.book}`"
    return None


def _left_out(snapshot: Snapshot, model_name: str) -> list[Verdict]:
    """Channels that would serve the model, and are switched off or have nothing to call with."""
    left = []
    for channel in snapshot.channels:
        if model_name in channel.models and not (channel.enabled and channel.ways):
            why = "no credential in use" if channel.enabled else "switched off"
            left.append(
                Verdict(
                    position=None,
                    reason=f"passed over: {why}",
                    channel_id=channel.id,
                    channel=channel.name,
                    credential_id="",
                    credential="",
                    priority=channel.priority,
                    weight=channel.weight,
                    credential_weight=0,
                    in_flight=0,
                    first_content_ms=None,
                    estimate=None,
                )
            )
    return left
