"""Several operations at once, in an order that the test decides: each runs until it asks Redis or opens the database,
and waits there for its turn."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from app.base.database import Database
from app.base.wire import Wire

__all__ = ["Schedule"]


class Schedule:
    """`choose(n)` says which of n operations that wait goes on, from 0. Nobody else may use the wire meanwhile."""

    def __init__(self, wire: Wire, database: Database, choose: Callable[[int], int]) -> None:
        self._choose = choose
        self._parked: dict[asyncio.Task[Any], asyncio.Future[None]] = {}
        self._tasks: list[asyncio.Task[Any]] = []
        self._moved = asyncio.Event()
        self._pace_wire(wire)
        self._pace_database(database)

    async def run(self, *operations: Coroutine[Any, Any, Any]) -> list[Any]:
        """What each answered. Raises what the first of them raised that failed, when all have ended."""
        self._tasks = [asyncio.create_task(operation) for operation in operations]
        for task in self._tasks:
            task.add_done_callback(lambda _: self._moved.set())
        while not all(task.done() for task in self._tasks):
            if any(not task.done() and task not in self._parked for task in self._tasks):
                self._moved.clear()
                await self._moved.wait()
                continue
            waiting = [task for task in self._tasks if task in self._parked]
            self._parked.pop(waiting[self._choose(len(waiting)) % len(waiting)]).set_result(None)
        tasks, self._tasks = self._tasks, []
        await asyncio.wait(tasks)
        return [task.result() for task in tasks]

    async def _turn(self) -> None:
        task = asyncio.current_task()
        if task is not None and task in self._tasks:
            self._parked[task] = asyncio.get_running_loop().create_future()
            self._moved.set()
            await self._parked[task]

    def _pace_wire(self, wire: Wire) -> None:
        """Commands and scripts alike."""
        for name in ("call", "run"):
            asked = getattr(wire, name)

            async def paced(*arguments: Any, asked: Any = asked, **options: Any) -> Any:
                await self._turn()
                return await asked(*arguments, **options)

            setattr(wire, name, paced)

    def _pace_database(self, database: Database) -> None:
        for name in ("read", "write"):
            opened = getattr(database, name)

            @asynccontextmanager
            async def paced(opened: Any = opened) -> AsyncIterator[Any]:
                await self._turn()
                async with opened() as db:
                    yield db

            setattr(database, name, paced)
