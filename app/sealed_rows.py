"""Everything that the database keeps sealed: whether it opens with the secret key of the settings, and its rotation. A
start looks once, so that a wrong key is one clear error and not workers that die one after the other."""

from collections.abc import Callable

import msgspec
from sqlalchemy import Column, Table, select, update

from app.alerts.tables import webhooks
from app.base.crypto import Sealer, UnsealError
from app.base.database import Database
from app.catalog.sealed import shaping_context
from app.catalog.tables import channels

__all__ = ["SEALED", "SealedColumn", "check_secret_key", "seal_anew"]


class SealedColumn(msgspec.Struct, frozen=True):
    """A column of sealed texts, of rows that have an `id`. `context` makes of it what each text is bound to."""

    table: Table
    column: Column[bytes]
    context: Callable[[str], str]


SEALED = (
    SealedColumn(channels, channels.c.sealed_credentials, str),
    SealedColumn(channels, channels.c.sealed_shaping, shaping_context),
    SealedColumn(webhooks, webhooks.c.sealed_secret, str),
)


async def check_secret_key(database: Database, sealer: Sealer) -> None:
    """Raises UnsealError where anything that was sealed can't be opened, and says what mends it."""
    found, unopened = 0, []
    async with database.read() as db:
        for kind in SEALED:
            query = select(kind.table.c.id, kind.column).where(kind.column.is_not(None)).order_by(kind.table.c.id)
            for row_id, sealed in await db.execute(query):
                found += 1
                try:
                    sealer.open(sealed, kind.context(row_id))
                except UnsealError:
                    unopened.append(f"{kind.table.name} {row_id}")
    if not unopened:
        return
    if len(unopened) == found:
        raise UnsealError(
            "TOLLGATE_SECRET_KEY is not the key that this database was sealed with: none of its"
            f" {found} sealed credentials and secrets can be opened. Set TOLLGATE_SECRET_KEY (or"
            " TOLLGATE_SECRET_KEY_FILE) to that key; where it was unset, bring back the secret.key of its data dir."
            " A new key goes with the former one as TOLLGATE_OLD_SECRET_KEY, and then `tollgate secrets rotate`."
        )
    raise UnsealError(
        f"TOLLGATE_SECRET_KEY does not open {len(unopened)} of the {found} sealed credentials and secrets of this"
        f" database, the first of which is that of {unopened[0]}. They were sealed with another key, or altered since:"
        " bring those rows back from a backup, or set TOLLGATE_SECRET_KEY to the key that they were sealed with."
    )


async def seal_anew(database: Database, sealer: Sealer) -> int:
    """Seals everything under the sealer's key, also what its old key opens; how many texts that were.

    Raises UnsealError where one can't be opened, and nothing is changed then. A change of a row waits for its end.
    """
    count = 0
    async with database.write() as db:
        for kind in SEALED:
            row_id = kind.table.c.id
            query = select(row_id, kind.column).where(kind.column.is_not(None)).order_by(row_id).with_for_update()
            for found_id, sealed in (await db.execute(query)).all():
                context = kind.context(found_id)
                anew = sealer.seal(sealer.open(sealed, context), context)
                await db.execute(update(kind.table).where(row_id == found_id).values({kind.column.name: anew}))
                count += 1
    return count
