"""Keys that were seen lately, opened. Emptied key by key when a change is announced, and whole when announcements may
have been missed."""

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar

from app.base.addresses import read_network
from app.base.clock import now_ms
from app.base.errors import InvalidKey
from app.base.guesses import Guesses
from app.base.ids import digest, is_wellformed_key
from app.base.names import Names
from app.base.scopes import Scope
from app.catalog.records import Key
from app.proxy.access.permission import check_address, check_scope
from app.proxy.records import Caller
from app.quota.slots import slots_of

__all__ = ["FindKey", "Keyring"]

Value = TypeVar("Value")

_KNOWN_MOST = 100_000
_UNKNOWN_MOST = 10_000


class FindKey(Protocol):
    """Looks a key up by the SHA-256 of its secret."""

    async def __call__(self, secret_digest: bytes, /) -> Key | None: ...


def _nobody_notes(_key_id: str, _address: str) -> None: ...


class Keyring:
    """`note_use` hears of every request that a key was let in with, and from where."""

    def __init__(
        self, find_key: FindKey, shards: int, guesses: Guesses, note_use: Callable[[str, str], None] = _nobody_notes
    ) -> None:
        self._find_key = find_key
        self._shards = shards
        self._guesses = guesses
        self._note_use = note_use
        self._known: dict[bytes, Caller] = {}
        self._familiar: dict[bytes, None] = {}  # known once
        self._unknown: dict[bytes, None] = {}
        self._lookups: dict[bytes, asyncio.Task[Caller | None]] = {}
        self._changes = 0

    async def enter(self, secret: str, address: str, scope: Scope) -> Caller:
        """The caller whose key this is, let in at the door of this scope. Raises InvalidKey, whatever is wrong with the
        key, RateLimited where too many wrong ones came from there, and Forbidden."""
        caller = self._known.get(digest(secret)) or await self._find(secret, address)
        if caller.expires_at_ms is not None and caller.expires_at_ms <= now_ms():
            raise InvalidKey
        check_scope(caller, scope)
        check_address(caller, address)
        self._note_use(caller.key_id, address)
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
        self._unknown.clear()
        self._forget(lambda _: True)

    def _forget(self, is_meant: Callable[[Caller], bool]) -> None:
        self._changes += 1
        for secret_digest in [each for each, caller in self._known.items() if is_meant(caller)]:
            del self._known[secret_digest]
            _remember(self._familiar, secret_digest, None, _KNOWN_MOST)

    async def _find(self, secret: str, address: str) -> Caller:
        """Raises InvalidKey, or RateLimited before it would be looked up."""
        secret_digest = digest(secret)
        if secret_digest in self._familiar:  # no guess, though it may have been revoked
            if secret_digest in self._unknown or (caller := await self._look_up_once(secret_digest)) is None:
                raise InvalidKey
            return caller
        attempt = await self._guesses.begin(address)
        caller = None
        missed = False
        try:
            caller = self._known.get(secret_digest)  # others may have found it meanwhile
            if caller is None and is_wellformed_key(secret) and secret_digest not in self._unknown:
                caller = await self._look_up_once(secret_digest)
            missed = caller is None
        finally:
            self._guesses.end(attempt, missed=missed)
        if caller is None:
            raise InvalidKey
        return caller

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
    networks = None if key.allowed_cidrs is None else tuple(read_network(cidr) for cidr in key.allowed_cidrs)
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
