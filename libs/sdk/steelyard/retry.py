"""When to try again, and after which pause."""

from __future__ import annotations

import random

from steelyard.errors import SteelyardError, Unavailable

_LONGEST_PAUSE_S = 5.0


def worth_retrying(error: SteelyardError) -> bool:
    """Whether the same request with the same ids may succeed later."""
    return isinstance(error, Unavailable)


def pause_s(attempt: int, first_s: float, error: SteelyardError, rng: random.Random) -> float:
    """Return the pause before try `attempt` + 1: exponential with full jitter, never before the server asked for.

    :param attempt: 1 for the pause after the first try
    """
    ceiling = min(_LONGEST_PAUSE_S, first_s * 2 ** min(attempt - 1, 16))
    return max(rng.uniform(0, ceiling), error.retry_after_s or 0.0)
