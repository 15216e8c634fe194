"""Keys that were seen lately, opened. Emptied key by key when a change is announced, and whole when announcements may
have been missed."""

import asyncio
import ipaddress
from collections.abc import Callable
from typing import Protocol, TypeVar

from app.base.clock import now_ms
from app.base.errors import InvalidKey
from app.base.ids import digest, is_wellformed_key
from app.base.names import Names
from app.catalog.records import Key
from app.proxy.records import Caller
from app.quota.slots import slots_of

__all__ = ["FindKey", "Keyring"]

Value = TypeVar("Value")

_KNOWN_MOST = 100_000
_UNKNOWN_MOST = 10_000


class FindKey(Protocol):
    """Looks a key up by the SHA-256 of its secret."""

    async def __call__(self, secret_digest: bytes, /) -> Key | None: ...


class Keyring:
    def __init__(self, find_key: FindKey, shards: int) -> None:
        self._find_key = find_key
        self._shards = shards
        self._known: dict[bytes, Caller] = {}
        self._unknown: dict[bytes, None] = {}
        self._lookups: dict[bytes, asyncio.Task[Caller | None]] = {}
        self._changes = 0

    async def open(self, secret: str) -> Caller:
        """The caller whose key this is. Raises InvalidKey, whatever is wrong with it."""
        secret_digest = digest(secret)
        caller = self._known.get(secret_digest)
        if caller is None:
            if not is_wellformed_key(secret) or secret_digest in self._unknown:
                raise InvalidKey
            caller = await self._look_up_once(secret_digest)
        if caller is None or (caller.expires_at_ms is not None and caller.expires_at_ms <= now_ms()):
            raise InvalidKey
        return caller

    def forget(self, key_id: str) -> None:
        """The key has changed: it is read again at its next use."""
        self._unknown.clear()  # it may have been disabled, and be enabled now
        self._forget(lambda caller: caller.key_id == key_id)

    def forget_account(self, account_id: str) -> None:
        """What its keys and its members' share has changed, such as its limits: each is read again at its next use."""
        self._forget(lambda caller: caller.account_id == account_id or _has(caller, "id", account_id))

    def forget_book(self, book: str) -> None:
        """So have the limits that it gives to accounts without any."""
        self._forget(lambda caller: _has(caller, "book", book))

    def forget_all(self) -> None:
        """Announcements may have been missed."""
        self._changes += 1
        self._known.clear()
        self._unknown.clear()

    def _forget(self, is_meant: Callable[[Caller], bool]) -> None:
        self._changes += 1
        for secret_digest in [each for each, caller in self._known.items() if is_meant(caller)]:
            del self._known[secret_digest]

    async def _look_up_once(self, secret_digest: bytes) -> Caller | None:
        """A thousand first requests with one key are one look-up."""
        lookup = self._lookups.get(secret_digest)
        if lookup is None:
            lookup = asyncio.create_task(self._look_up(secret_digest))
            self._lookups[secret_digest] = lookup
            lookup.add_done_callback(lambda _: self._lookups.pop(secret_digest, None))
        return await asyncio.shield(lookup)

    async def _look_up(self, secret_digest: bytes) -> Caller | None:
        while True:
            changes = self._changes
            key = await self._find_key(secret_digest)
            if changes == self._changes:  # else it may have been revoked while it was read
                break
        if key is None or not key.enabled:
            _remember(self._unknown, secret_digest, None, _UNKNOWN_MOST)
            return None
        caller = _caller(key, self._shards)
        _remember(self._known, secret_digest, caller, _KNOWN_MOST)
        return caller


def _remember(cache: dict[bytes, Value], key: bytes, value: Value, most: int) -> None:
    if len(cache) >= most:
        del cache[next(iter(cache))]
    cache[key] = value


def _has(caller: Caller, field: str, value: str) -> bool:
    """One of the accounts that its requests count for."""
    return any(getattr(account, field) == value for account in caller.chain)


def _caller(key: Key, shards: int) -> Caller:
    networks = None
    if key.allowed_cidrs is not None:
        parsed = [ipaddress.ip_network(cidr) for cidr in key.allowed_cidrs]
        networks = tuple((net.version, int(net.network_address), int(net.broadcast_address)) for net in parsed)
    payer_id = key.chain[-1].id if key.chain else key.account_id
    return Caller(
        account_id=payer_id,
        key_id=key.id,
        book=key.book,
        slots=slots_of(payer_id, key.id, shards),
        limits=key.limits,
        models=None if key.models is None else Names(key.models),
        networks=networks,
        expires_at_ms=key.expires_at_ms,
        chain=key.chain,
        budgets=key.budgets,
        scopes=None if key.scopes is None else frozenset(key.scopes),
    )
