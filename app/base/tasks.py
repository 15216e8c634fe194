"""Tasks that run for as long as something is open."""

import asyncio
import logging
from typing import Any

__all__ = ["end_all"]

log = logging.getLogger("tollgate")

_ASK_AGAIN_S = 0.5


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
