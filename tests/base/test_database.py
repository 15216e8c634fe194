"""What a lost database looks like from above: ServiceUnavailable, whenever it was lost."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from app.base.database import Database
from app.base.errors import ServiceUnavailable


async def assert_unavailable(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
    """A PostgreSQL that treats its clients so."""
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        database = Database(f"postgresql+asyncpg://nobody@127.0.0.1:{port}/none?ssl=disable")
        with pytest.raises(ServiceUnavailable):
            await database.ping()
        await database.close()


async def test_a_server_that_hangs_up_while_it_is_being_connected_to_is_unavailable():
    """A shutdown in that moment is no fault of the statement: a receipt must not be set aside for it."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.transport.abort()

    await assert_unavailable(hang_up)


# A wrong password, no such database, too many connections, none allowed, starting up, and a fault of its own.
@pytest.mark.parametrize("code", ["28P01", "3D000", "53300", "55000", "57P03", "XX000"])
async def test_a_server_that_refuses_a_connection_is_unavailable(code: str):
    """Whatever code it gives: what waits for the database goes on waiting, and a customer is told 503."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        fields = f"SFATAL\0C{code}\0Mnot now\0\0".encode()
        writer.write(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)
        writer.close()

    await assert_unavailable(refuse)


async def test_many_that_open_a_new_file_at_once_all_get_in(tmp_path: Path):
    """SQLite refuses the second of two that switch a file to WAL, without waiting: it has to be asked again."""
    databases = [Database(f"sqlite+aiosqlite:///{tmp_path}/new.db") for _ in range(8)]
    await asyncio.gather(*(database.ping() for database in databases))
    for database in databases:
        await database.close()
