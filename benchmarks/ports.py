"""Ports for the servers that a run or a test starts."""

import random
import socket

__all__ = ["free_port"]

# Below what Linux gives to outgoing connections (32768 and up), so that no connection takes the port before its
# server listens, or while that server is away. A node of a Redis cluster also listens ten thousand above its port.
_FIRST, _LAST = 10_240, 22_700
_chance = random.SystemRandom()  # several processes look for ports at once, some of them with a seeded `random`


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now, nor ten thousand above it."""
    while True:
        port = _chance.randint(_FIRST, _LAST)
        if _is_free(port) and _is_free(port + 10_000):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
