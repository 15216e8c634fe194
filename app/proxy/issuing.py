"""Keys that customers issue with their own, where they may: the back rooms decide what is within its bounds."""

from collections.abc import Mapping
from typing import Any, Protocol

from app.proxy.access import Keyring
from app.proxy.journey import Visit

__all__ = ["IssuedKeys", "Issuing"]


class IssuedKeys(Protocol):
    """What the key `issuer_id` issued. Each raises Forbidden where it may not issue any."""

    async def issue(self, issuer_id: str, body: bytes, /) -> dict[str, Any]:
        """Raises InvalidField where the wish is not within the issuer's own bounds, Conflict where it has too many."""

    async def list_issued(self, issuer_id: str, query: Mapping[str, str], /) -> dict[str, Any]: ...

    async def revoke(self, issuer_id: str, key_id: str, /) -> dict[str, Any]:
        """Raises NotFound."""


class Issuing:
    def __init__(self, keyring: Keyring, issued: IssuedKeys) -> None:
        self._keyring = keyring
        self._issued = issued

    async def issue(self, visit: Visit) -> dict[str, Any]:
        """`POST /v1/keys`. The secret is in this answer and nowhere else."""
        return await self._issued.issue(await self._enter(visit), await visit.read())

    async def list_issued(self, visit: Visit, query: Mapping[str, str]) -> dict[str, Any]:
        """`GET /v1/keys`."""
        return await self._issued.list_issued(await self._enter(visit), query)

    async def revoke(self, visit: Visit, key_id: str) -> dict[str, Any]:
        """`DELETE /v1/keys/{id}`: it stays in the list, disabled."""
        return await self._issued.revoke(await self._enter(visit), key_id)

    async def _enter(self, visit: Visit) -> str:
        return (await self._keyring.enter(visit.key, visit.address, visit.scope)).key_id
