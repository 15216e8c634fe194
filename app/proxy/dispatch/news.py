"""What workers tell each other of the ways to vendors, over Redis: each change as it happens, and what stands for those
who come later. No request waits for it; without Redis each worker goes on alone.

`{tollgate}:news`      pub/sub: a change, who found it out, and when by its clock
`{tollgate}:standing`  hash: what holds a way back now, as the change that made it so
"""

import asyncio
import logging
from collections import deque

import msgspec
import redis.asyncio as redis
from redis.exceptions import RedisError

from app.base.clock import now_ms
from app.base.ids import new_id
from app.base.redis import HOUSE
from app.base.tasks import end_all
from app.proxy.dispatch.change import Change
from app.proxy.dispatch.figures import STANDING, Figures, read_health, read_standing
from app.proxy.dispatch.health import Health

__all__ = ["News", "read_health"]

log = logging.getLogger("tollgate.news")

_TOPIC = f"{HOUSE}:news"

_OUTBOX_MOST = 10_000
_RETRY_S = 0.5
_QUIET_S = 2.0
_REPAIR_S = 3.0
# What ended so long ago says nothing any more.
_STALE_MS = 60_000

_CUT_OFF = (RedisError, OSError, TimeoutError)


class _Message(msgspec.Struct, frozen=True):
    """`at_ms` is when it was sent, by the sender's clock: the change's `until_ms` is by the same."""

    worker: str
    at_ms: int
    change: Change


_read_message = msgspec.json.Decoder(_Message).decode


class News:
    """One worker's ear and mouth. `keep` runs for as long as the worker does."""

    def __init__(self, client: redis.Redis, health: Health) -> None:
        self.worker = new_id("wrk")
        self._client = client
        self._health = health
        self._figures = Figures(client, health, self.worker)
        self._outbox: deque[Change] = deque(maxlen=_OUTBOX_MOST)
        self._has_mail = asyncio.Event()
        health.listen(self._note)

    async def keep(self) -> None:
        """Until cancelled."""
        work = (self._send(), self._follow(), self._repair(), self._figures.keep())
        tasks = [asyncio.create_task(each, name="news") for each in work]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            await asyncio.shield(self._leave(tasks))

    def _note(self, change: Change) -> None:
        self._outbox.append(change)
        self._has_mail.set()

    async def _send(self) -> None:
        while True:
            await self._has_mail.wait()
            self._has_mail.clear()
            while self._outbox:
                change = self._outbox[0]
                try:
                    await self._write_down(change)
                    message = _Message(self.worker, now_ms(), change)
                    await self._client.publish(_TOPIC, msgspec.json.encode(message))
                except _CUT_OFF as error:
                    log.warning("a change of a channel's health can't be told: %s", _cause(error))
                    await asyncio.sleep(_RETRY_S)
                    continue
                if self._outbox and self._outbox[0] is change:  # it may have been pushed out by newer ones
                    self._outbox.popleft()

    async def _write_down(self, change: Change) -> None:
        """What stands is changed before it is told, so that nobody reads less than it hears."""
        match change.kind:
            case "opened" | "cooling" | "parked":
                await self._client.hset(STANDING, _field(change), msgspec.json.encode(change))
            case "closed" | "returned":
                await self._client.hdel(STANDING, *_ended_by(change))

    async def _follow(self) -> None:
        while True:
            try:
                async with self._client.pubsub() as link:
                    await link.subscribe(_TOPIC)
                    await self._adopt(await read_standing(self._client))
                    await self._listen(link)
            except _CUT_OFF as error:
                log.warning("news of the channels' health are cut off: %s", _cause(error))
            await asyncio.sleep(_RETRY_S)

    async def _listen(self, link: "redis.client.PubSub") -> None:
        """Until the link breaks: one that is quiet has to answer a ping."""
        pinged = False
        while True:
            message = await link.get_message(timeout=_QUIET_S)
            if message is None and pinged:
                raise TimeoutError("no answer to a ping")
            pinged = message is None
            if message is None:
                await link.ping()
            elif message["type"] == "message":
                await self._hear(message["data"])

    async def _hear(self, data: bytes) -> None:
        try:
            message = _read_message(data)
        except msgspec.MsgspecError:
            log.warning("news that can't be read: is another version of Tollgate running?")
            return
        if message.worker == self.worker:
            return
        self._health.hear(message.change, message.at_ms)
        if message.change.kind in ("closed", "returned"):
            # This worker's repair may just have written down again what has ended.
            await self._write_down(message.change)

    async def _repair(self) -> None:
        """What stands in Redis and what stands here are brought together: messages get lost, and Redis is emptied."""
        while True:
            await asyncio.sleep(_REPAIR_S)
            if self._outbox:
                continue
            try:
                standing = await read_standing(self._client)
                if not self._outbox:
                    await self._adopt(standing)
                    for change in self._health.standing():
                        if _field(change) not in standing:
                            await self._client.hsetnx(STANDING, _field(change), msgspec.json.encode(change))
                over = [field for field, change in standing.items() if self._is_over(change)]
                if over:
                    await self._client.hdel(STANDING, *over)
            except _CUT_OFF:
                continue

    async def _adopt(self, standing: dict[str, Change]) -> None:
        """Where this worker knows of nothing that is wrong with a way, what stands is right."""
        for change in standing.values():
            if not self._is_over(change) and not self._is_known(change):
                self._health.hear(change)

    def _is_known(self, change: Change) -> bool:
        for way in self._health.find(change.channel_id, change.credential_id):
            match change.kind:
                case "opened":
                    return way.breaker.state != "closed"
                case "parked":
                    return way.parked is not None
        return False

    def _is_over(self, change: Change) -> bool:
        if change.until_ms is not None and change.until_ms < now_ms() - _STALE_MS:
            return True
        return not any(way.stamp == change.stamp for way in self._health.find(change.channel_id, change.credential_id))

    async def _leave(self, tasks: list[asyncio.Task[None]]) -> None:
        """What it had found out and not told yet is written down; its figures are no longer anybody's."""
        await end_all(*tasks)
        try:
            async with asyncio.timeout(_RETRY_S):
                for change in self._outbox:
                    await self._write_down(change)
                await self._figures.leave()
        except _CUT_OFF:
            log.info("the channels' health was not left behind: Redis is away")


def _field(change: Change) -> str:
    about = f" {change.model}" if change.kind == "cooling" else ""
    return f"{change.channel_id}/{change.credential_id} {change.kind}{about}"


def _ended_by(change: Change) -> list[str]:
    ended = ("opened",) if change.kind == "closed" else ("opened", "parked")
    return [f"{change.channel_id}/{change.credential_id} {kind}" for kind in ended]


def _cause(error: BaseException) -> str:
    return str(error) or type(error).__name__
