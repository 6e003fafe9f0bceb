"""When to try again, and after which pause."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from steelyard.errors import SteelyardError, Unavailable

_LONGEST_PAUSE_S = 5.0


def worth_retrying(error: SteelyardError) -> bool:
    """Whether the same request with the same ids may succeed later."""
    return isinstance(error, Unavailable)


def pause_s(attempt: int, first_s: float, error: SteelyardError, rng: random.Random) -> float:
    """Return the pause before try `attempt` + 1: exponential with full jitter, on top of what the server asked for.

    :param attempt: 1 for the pause after the first try
    """
    ceiling = min(_LONGEST_PAUSE_S, first_s * 2 ** min(attempt - 1, 16))
    return (error.retry_after_s or 0.0) + rng.uniform(0, ceiling)


class RetryBudget:
    """Bounds the tries beyond the first ones, so that an outage does not multiply the load of those who cause none.

    A bucket of tokens, full with `burst`: each first try puts `ratio` in, time `per_s`, each further try takes one.
    When it is empty, tries queue up: each is told how long to wait for its token.
    """

    def __init__(self, now_s: float, *, burst: float = 10.0, ratio: float = 0.2, per_s: float = 2.0) -> None:
        self._burst, self._ratio, self._per_s = burst, ratio, per_s
        self._tokens = burst
        self._filled_at_s = now_s

    def first_try(self) -> None:
        """Note a call that is tried for the first time."""
        self._tokens = min(self._burst, self._tokens + self._ratio)

    def reserve(self, now_s: float) -> float:
        """Take the token of one more try, and return the seconds until it is there. Tokens can be owed."""
        self._tokens = min(self._burst, self._tokens + (now_s - self._filled_at_s) * self._per_s)
        self._filled_at_s = now_s
        self._tokens -= 1
        return max(0.0, -self._tokens / self._per_s)

    def give_back(self) -> None:
        """Return a token that was reserved and is not used."""
        self._tokens = min(self._burst, self._tokens + 1)


class Retrying:
    """The tries of one client: its pauses, and the budget that all its calls and streams share."""

    def __init__(self, first_pause_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._first_pause_s = first_pause_s
        self._clock = clock
        self._random = random.Random()  # noqa: S311 - jitter, not a secret
        self._budget = RetryBudget(clock())

    def first_try(self) -> None:
        """Note that something is sent for the first time."""
        self._budget.first_try()

    def pause_s(self, attempt: int, error: SteelyardError, give_up_at_s: float = float("inf")) -> float | None:
        """Return the pause before try `attempt` + 1; None if that would come after `give_up_at_s` (monotonic)."""
        now_s = self._clock()
        budget_s = self._budget.reserve(now_s)
        pause = max(budget_s, pause_s(attempt, self._first_pause_s, error, self._random))
        if now_s + pause >= give_up_at_s:
            self._budget.give_back()
            return None
        return pause
