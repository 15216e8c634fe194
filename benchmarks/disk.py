"""What the disk takes for one append and its sync: each request waits for two, one a call of Redis."""

from __future__ import annotations

import os
import statistics
import tempfile
import time

TIMES = 300
PAUSE_S = 0.0005  # as between two requests of one connection: a disk that is never left alone answers sooner
RECORD = b"x" * 1024


def sync_ms() -> float:
    """The median, in the directory that the run's own data is in."""
    took = []
    with tempfile.TemporaryFile(prefix="tollgate-bench-") as file:
        for _ in range(TIMES):
            started = time.perf_counter()
            os.write(file.fileno(), RECORD)
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - started)
            time.sleep(PAUSE_S)
    return statistics.median(took) * 1000
