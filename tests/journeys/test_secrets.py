"""Secrets: shown once or never, and stored so that a copy of everything gives none away."""

import secrets

import asyncpg

from tests.gateway import Gateway
from tests.shop import Shop


def test_a_channels_credentials_are_never_shown(shop: Shop) -> None:
    """Not when it is made, nor when it is changed, nor in the problem that a bad change is."""
    secret = "vendor-credential-" + secrets.token_hex(8)
    http = shop.operator.http
    channel = shop.channel(shop.vendor(), shop.model(), credentials=[secret])
    new_secret = "vendor-credential-" + secrets.token_hex(8)

    shown = [
        http.get(f"/channels/{channel['id']}"),
        http.get("/channels"),
        http.patch(f"/channels/{channel['id']}", json={"credentials": [new_secret]}),
        http.patch(f"/channels/{channel['id']}", json={"credentials": [new_secret], "weight": "x"}),
    ]

    for text in [str(channel), *(answer.text for answer in shown)]:
        assert secret not in text
        assert new_secret not in text


def test_a_key_is_shown_once(shop: Shop) -> None:
    """Its making shows it; afterwards there is a hint to tell it by, no more."""
    customer = shop.customer(credit="0")
    issued = shop.operator.new_key(customer.account_id)

    changed = shop.operator.patch(f"/keys/{issued['id']}", {"name": "renamed"})

    assert issued["key"].startswith("sk-")
    assert len(issued["key"]) >= 46, "256 bits and a checksum"
    start, end = issued["hint"].split("…")
    assert issued["key"].startswith(start)
    assert issued["key"].endswith(end)
    assert len(start + end) < 16
    for text in (str(changed), shop.operator.http.get(f"/accounts/{customer.account_id}").text):
        assert issued["key"] not in text


async def everything_stored(gateway: Gateway) -> bytes:
    """All the bytes that the gateway keeps: its files, and every row of its database."""
    files = b"".join(path.read_bytes() for path in gateway.files())
    if not gateway.database_url:
        return files
    rows = []
    connection = await asyncpg.connect(gateway.database_url.replace("+asyncpg", ""))
    try:
        tables = "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname = 'public'"
        for (table,) in await connection.fetch(tables):
            rows += [row for (row,) in await connection.fetch(f"select t::text from {table} t")]
    finally:
        await connection.close()
    return files + "\n".join(rows).encode()


async def test_secrets_are_not_stored_as_they_are(shop: Shop) -> None:
    """Keys are kept as hashes and credentials encrypted: a copy of everything gives neither away."""
    credential = "vendor-credential-" + secrets.token_hex(12)
    model = shop.model()
    channel = shop.channel(shop.vendor(), model, credentials=[credential])
    customer = shop.customer()
    shop.operator.wait_receipt(customer.chat(model).headers["x-request-id"])

    stored = await everything_stored(shop.gateway)

    assert channel["name"].encode() in stored, "the place where it would be was looked at"
    for secret in (credential, customer.key, customer.key.removeprefix("sk-")):
        assert secret.encode() not in stored
        assert secret not in shop.gateway.log
