"""How long Hypothesis looks: a little, and at the same places, in the suite; `TOLLGATE_TEST_EXAMPLES=2000` looks for
longer, each time somewhere else."""

import os

from hypothesis import HealthCheck, settings

__all__ = ["TIMEOUT_S", "search"]

_EXAMPLES = int(os.environ.get("TOLLGATE_TEST_EXAMPLES", "0"))
TIMEOUT_S = 0 if _EXAMPLES else 300  # of pytest; 0: none


def search(examples: int, steps: int = 50) -> settings:
    """In the suite: so many examples, and steps of a state machine."""
    return settings(
        max_examples=_EXAMPLES or examples,
        stateful_step_count=2 * steps if _EXAMPLES else steps,
        derandomize=not _EXAMPLES,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
