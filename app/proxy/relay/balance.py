"""What a vendor says is left on an account of ours, where it can be asked with the key that serves requests."""

import asyncio
import ssl
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from app.base.clock import now_ms
from app.catalog.records import Channel, Credential, Tls
from app.proxy.relay.providers import PROVIDERS

__all__ = ["BALANCES", "Balance", "ask_balance", "read_balance"]

_TIMEOUT_S = 10.0
_BODY_MOST = 64 * 1024

Path = tuple[str | int, ...]


class _Query(msgspec.Struct, frozen=True):
    """Where at the vendor's host, and where in its answer; a currency that the answer does not tell is said here."""

    path: str
    amount: Path
    currency: Path | str


BALANCES: dict[str, _Query] = {
    # https://api-docs.deepseek.com/api/get-user-balance
    "deepseek": _Query("/user/balance", ("balance_infos", 0, "total_balance"), ("balance_infos", 0, "currency")),
    # https://platform.moonshot.ai/docs/api/balance
    "moonshot": _Query("/v1/users/me/balance", ("data", "available_balance"), "USD"),
    # https://openrouter.ai/docs/api/api-reference/api-keys/get-current-key: null where the key has no limit
    "openrouter": _Query("/api/v1/key", ("data", "limit_remaining"), "USD"),
}


class Balance(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """In the vendor's own currency, as a decimal text; with `error` instead where it could not be had."""

    at_ms: int
    amount: str | None = None
    currency: str | None = None
    error: str | None = None


async def ask_balance(channel: Channel, credential: Credential) -> Balance:
    """Never raises for what the vendor did."""
    query = BALANCES.get(channel.provider)
    if query is None or credential.secret is None:
        return _unknown("the vendor has no balance to ask for")
    provider, parts = PROVIDERS[channel.provider], urlsplit(channel.base_url)
    headers = {provider.auth_header: provider.auth_prefix + credential.secret.reveal()}
    try:
        async with (
            asyncio.timeout(_TIMEOUT_S),
            _client(channel) as client,
            client.stream("GET", f"{parts.scheme}://{parts.netloc}{query.path}", headers=headers) as answer,
        ):
            if answer.status_code != 200:
                return _unknown(f"status {answer.status_code}")
            body = b""
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > _BODY_MOST:
                    return _unknown("the answer is too long")
    except TimeoutError:
        return _unknown("timeout")
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, ImportError) as error:
        return _unknown(type(error).__name__)  # and no more of it: a proxy's address may hold a password
    return read_balance(query, body)


def read_balance(query: _Query, body: bytes) -> Balance:
    """Pure. Numbers are read as decimals: money never is a float."""
    try:
        said = msgspec.json.Decoder(float_hook=Decimal).decode(body)
        amount = Decimal(_at(said, query.amount))
        currency = query.currency if isinstance(query.currency, str) else str(_at(said, query.currency))
    except (msgspec.DecodeError, LookupError, TypeError, ValueError, ArithmeticError):
        return _unknown("the answer has no balance in it")
    if not amount.is_finite():
        return _unknown("the answer has no balance in it")
    return Balance(at_ms=now_ms(), amount=f"{amount:f}", currency=currency[:10])


def _at(said: Any, path: Path) -> Any:
    for step in path:
        said = said[step]
    return said


def _unknown(error: str) -> Balance:
    return Balance(at_ms=now_ms(), error=error)


def _client(channel: Channel) -> httpx.AsyncClient:
    """Made for each call: it is asked once an hour. Raises ValueError or ImportError for a proxy that can't be used."""
    return httpx.AsyncClient(
        timeout=_TIMEOUT_S,
        follow_redirects=False,
        trust_env=False,
        proxy=channel.shaping.proxy,
        verify=_tls(channel.shaping.tls),
        headers={"user-agent": "tollgate"},
    )


def _tls(tls: Tls) -> ssl.SSLContext:
    context = httpx.create_ssl_context(verify=tls.verify, trust_env=False)
    if tls.ca_pem is not None:
        context.load_verify_locations(cadata=tls.ca_pem)
    if tls.min_version is not None:
        context.minimum_version = ssl.TLSVersion.TLSv1_3 if tls.min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    return context
