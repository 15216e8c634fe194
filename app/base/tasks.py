"""Tasks that run for as long as something is open."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["begin", "end_all"]

log = logging.getLogger("tollgate")

_ASK_AGAIN_S = 0.5
_AGAIN_S = 1.0


def begin(name: str, keep: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
    """A task that calls `keep`, which ends when it is cancelled. Where a fault of ours ends it, that is logged, and
    `keep` is called again: nobody else would notice."""

    async def unending() -> None:
        while True:
            try:
                await keep()
            except Exception:
                log.exception("%s broke off, and begins again", name)
            await asyncio.sleep(_AGAIN_S)

    return asyncio.create_task(unending(), name=name)


async def end_all(*tasks: asyncio.Task[Any]) -> None:
    """Cancels tasks, and waits until they have ended. They may have to be told more than once: redis-py loses a
    cancellation that comes at the same moment as an answer."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        done, waiting = await asyncio.wait(waiting, timeout=_ASK_AGAIN_S)
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("%s had ended in an error", task.get_name(), exc_info=error)
