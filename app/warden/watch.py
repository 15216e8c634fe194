"""One worker of the house is its warden: it has the lease, and does the jobs. When it dies the lease runs out, and
another takes over."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from app.base.errors import ServiceUnavailable
from app.base.tasks import end_all
from app.warden.lease import Lease

__all__ = ["Job", "watch"]

log = logging.getLogger("tollgate.warden")

_HOLD_EVERY_S = 1.0


class Job(msgspec.Struct, frozen=True):
    """`round` is called again and again, `every_s` after its last call has ended, `after_fault_s` where it failed."""

    name: str
    every_s: float
    round: Callable[[], Awaitable[object]]
    after_fault_s: float = 5.0


async def watch(lease: Lease, jobs: Sequence[Job]) -> None:
    """Does the jobs whenever this process has the lease, until cancelled."""
    working: list[asyncio.Task[None]] = []
    try:
        while True:
            if await lease.hold():
                if not working:
                    log.info("this worker is the warden now")
                    working = [asyncio.create_task(_keep_doing(job), name=job.name) for job in jobs]
            elif working:
                log.warning("this worker is the warden no longer")
                await end_all(*working)
                working = []
            await asyncio.sleep(_HOLD_EVERY_S)
    finally:
        await end_all(*working)
        if working:
            await lease.release()


async def _keep_doing(job: Job) -> None:
    while True:
        pause_s = job.every_s
        try:
            await job.round()
        except ServiceUnavailable as error:
            log.warning("%s: %s", job.name, error)
            pause_s = max(pause_s, job.after_fault_s)
        except Exception:  # a fault in one round is no reason never to do another
            log.exception("%s failed", job.name)
            pause_s = max(pause_s, job.after_fault_s)
        await asyncio.sleep(pause_s)
