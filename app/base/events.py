"""Changes, announced to every worker over Redis pub/sub: `key:<id>` or `catalog`. Announcements can be missed, so
whoever follows is told when that may have happened, and again for as long as the link is down."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import redis.asyncio as redis
from redis.exceptions import RedisError

__all__ = ["announce", "follow"]

log = logging.getLogger("tollgate.events")

_CHANNEL = "tollgate:events"
_QUIET_S = 0.4
_RETRY_S = 0.4


async def announce(client: redis.Redis, event: str) -> None:
    """Tells every worker. Where Redis is away nobody hears it: their links are down as well, and they read anew."""
    try:
        await client.publish(_CHANNEL, event)
    except (RedisError, OSError) as error:
        log.warning("change not announced: %s", error)


async def follow(
    client: redis.Redis,
    heard: Callable[[str], Awaitable[None]],
    missed: Callable[[], Awaitable[None]],
) -> None:
    """Calls `heard` for each event, until cancelled, and `missed` whenever some may have been missed."""
    while True:
        try:
            async with client.pubsub() as link:
                await link.subscribe(_CHANNEL)
                await missed()
                await _listen(link, heard)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("announcements are cut off: %s", error or type(error).__name__)
        await missed()
        await asyncio.sleep(_RETRY_S)


async def _listen(link: "redis.client.PubSub", heard: Callable[[str], Awaitable[None]]) -> None:
    """Until the link breaks. A dead one looks like a quiet one, so silence has to answer a ping."""
    pinged = False
    while True:
        message = await link.get_message(ignore_subscribe_messages=False, timeout=_QUIET_S)
        if message is not None:
            pinged = False
            if message["type"] == "message":
                await heard(message["data"].decode())
        elif pinged:
            raise TimeoutError("no answer to a ping")
        else:
            await link.ping()
            pinged = True
