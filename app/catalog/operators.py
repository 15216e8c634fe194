"""Operators of a part of the house: the account that they were given, and those below it. Only hashes of their tokens
are kept."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.base.clock import now_ms
from app.base.ids import digest, hint, new_id, new_operator_token
from app.catalog.records import Operator
from app.catalog.tables import operators

__all__ = ["create_operator", "find_operator", "list_operators", "operator_of_token", "update_operator"]


async def create_operator(db: AsyncConnection, name: str, account_id: str) -> tuple[Operator, str]:
    """A new operator and the token, which nobody can read again."""
    token = new_operator_token()
    made = Operator(
        id=new_id("opr"), name=name, account_id=account_id, hint=hint(token), enabled=True, created_at_ms=now_ms()
    )
    columns = {each: getattr(made, each) for each in made.__struct_fields__}
    await db.execute(insert(operators).values(**columns, digest=digest(token)))
    return made, token


async def find_operator(db: AsyncConnection, operator_id: str) -> Operator | None:
    row = (await db.execute(select(operators).where(operators.c.id == operator_id))).first()
    return _operator(row) if row else None


async def operator_of_token(db: AsyncConnection, token: str) -> Operator | None:
    """None where it is nobody's, or of one who may not any more."""
    query = select(operators).where(operators.c.digest == digest(token), operators.c.enabled)
    row = (await db.execute(query)).first()
    return _operator(row) if row else None


async def list_operators(db: AsyncConnection, after: str, limit: int) -> list[Operator]:
    """Oldest first, those after the id `after`."""
    query = select(operators).where(operators.c.id > after).order_by(operators.c.id).limit(limit)
    return [_operator(row) for row in await db.execute(query)]


async def update_operator(db: AsyncConnection, operator_id: str, values: Mapping[str, Any]) -> Operator | None:
    if values:
        await db.execute(update(operators).where(operators.c.id == operator_id).values(**values))
    return await find_operator(db, operator_id)


def _operator(row: Row[Any]) -> Operator:
    return Operator(
        id=row.id,
        name=row.name,
        account_id=row.account_id,
        hint=row.hint,
        enabled=row.enabled,
        created_at_ms=row.created_at_ms,
    )
