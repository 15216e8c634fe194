"""Signs of life: while this worker lives, the holds of its running requests do not expire."""

import asyncio
import logging
from collections import defaultdict

from app.base.errors import ServiceUnavailable
from app.quota.gate import Gate
from app.quota.slots import Shard

__all__ = ["Leases"]

log = logging.getLogger("tollgate.settlement")


class Leases:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._running: dict[str, Shard] = {}

    def __len__(self) -> int:
        return len(self._running)

    def begin(self, request_id: str, shard: Shard) -> None:
        self._running[request_id] = shard

    def end(self, request_id: str) -> None:
        self._running.pop(request_id, None)

    async def keep(self) -> None:
        """Renews, three times a lease, until cancelled."""
        while True:
            await asyncio.sleep(self._gate.lease_ms / 3000)
            shards: dict[int, list[str]] = defaultdict(list)
            by_number: dict[int, Shard] = {}
            for request_id, shard in self._running.items():
                shards[shard.number].append(request_id)
                by_number[shard.number] = shard
            try:
                for number, request_ids in shards.items():
                    await self._gate.renew(by_number[number], request_ids)
            except ServiceUnavailable:
                log.warning("leases could not be renewed: Redis is away")
