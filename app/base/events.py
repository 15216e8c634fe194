"""Changes, announced to every worker over Redis pub/sub: `key:<id>`, `account:<id>`, `book:<name>` or `catalog`. An
operator's write is answered once every worker has taken note, so that the next request finds it wherever it lands.
Announcements can be missed, so whoever follows is told when that may have happened, and again for as long as the link
is down.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable

import redis.asyncio as redis
from redis.exceptions import RedisError

from app.base.redis import HOUSE

__all__ = ["announce", "follow"]

log = logging.getLogger("tollgate.events")

_CHANNEL = f"{HOUSE}:events"
_QUIET_S = 0.4
_RETRY_S = 0.4
_ACKNOWLEDGED_S = 1
_FORGOTTEN_S = 10


async def announce(client: redis.Redis, event: str) -> bool:
    """Tells every worker, and waits until each has taken note, for a second at most. False where Redis is away: nobody
    hears it then, but everybody's link is down as well, and they read anew."""
    acknowledged = f"{_CHANNEL}:{secrets.token_hex(8)}"
    try:
        async with asyncio.timeout(_ACKNOWLEDGED_S):
            listeners = await client.publish(_CHANNEL, f"{acknowledged} {event}")
            for _ in range(listeners):
                await client.blpop([acknowledged], timeout=_ACKNOWLEDGED_S)
    except TimeoutError:
        log.warning("a worker has not acknowledged %s", event)
    except (RedisError, OSError) as error:
        log.warning("change not announced: %s", error)
        await client.aclose()  # its connections are looked up anew: the node may be another by then
        return False
    return True


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
                await _listen(client, link, heard)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("announcements are cut off: %s", str(error) or type(error).__name__)
        await missed()
        await asyncio.sleep(_RETRY_S)


async def _listen(client: redis.Redis, link: "redis.client.PubSub", heard: Callable[[str], Awaitable[None]]) -> None:
    """Until the link breaks. A dead one looks like a quiet one, so silence has to answer a ping."""
    pinged = False
    while True:
        message = await link.get_message(ignore_subscribe_messages=False, timeout=_QUIET_S)
        if message is not None:
            pinged = False
            if message["type"] == "message":
                acknowledged, _, event = message["data"].decode().partition(" ")
                await heard(event)
                await client.rpush(acknowledged, 1)
                await client.expire(acknowledged, _FORGOTTEN_S)
        elif pinged:
            raise TimeoutError("no answer to a ping")
        else:
            await link.ping()
            pinged = True
