"""UUID version 7 (RFC 9562, section 5.7): sorts by time of creation, so that index inserts stay local."""

from __future__ import annotations

import secrets
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from libs.clock import Clock, system_clock

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_RANDOM_BITS = 74  # rand_a (12 bits) and rand_b (62 bits), used as one number.
_STEP_BITS = 32


class Uuid7Source:
    """Makes UUIDv7s that strictly grow, also within a millisecond and when the clock steps back.

    Within a millisecond the random part grows by a random step (RFC 9562, section 6.2, method 2), so ids stay hard
    to guess; should it overflow, the timestamp runs ahead by one millisecond.
    """

    def __init__(self, clock: Clock, random_bits: Callable[[int], int] = secrets.randbits) -> None:
        self._clock = clock
        self._random_bits = random_bits
        self._lock = threading.Lock()
        self._last_ms = -1
        self._last_random = 0

    def __call__(self) -> uuid.UUID:
        now_ms = (self._clock() - _EPOCH) // _MILLISECOND
        with self._lock:
            if now_ms > self._last_ms:
                self._start(now_ms)
            else:
                self._last_random += 1 + self._random_bits(_STEP_BITS)
                if self._last_random >> _RANDOM_BITS:
                    self._start(self._last_ms + 1)
            unix_ms, random = self._last_ms, self._last_random
        rand_a, rand_b = random >> 62, random & ((1 << 62) - 1)
        return uuid.UUID(int=unix_ms << 80 | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b)

    def _start(self, unix_ms: int) -> None:
        self._last_ms = unix_ms
        self._last_random = self._random_bits(_RANDOM_BITS - 1)  # The top bit is left clear as room to grow.


uuid7 = Uuid7Source(system_clock)
"""The process's source: one, because ids are monotonic per source."""


def new_id(prefix: str) -> str:
    """A new id such as `inv_0190f4...`: prefix, underscore, 32 hexadecimal digits of a UUIDv7."""
    return f"{prefix}_{uuid7().hex}"
