"""Which calls are let in at all: none before the service is ready, and only so many at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

from libs.errors import ResourceExhausted, Unavailable

_RETRY_AFTER_S = Decimal("0.5")


class Admission:
    """Counts the calls being served; health and reflection, which hold streams open for ever, are not among them.

    Health alone keeps nobody away: not every client watches it. A service that has not loaded its directory yet would
    call good keys wrong and judge usage by rules that are not the tenant's.
    """

    def __init__(self, most_at_once: int) -> None:
        self._most_at_once = most_at_once
        self._running = 0
        self._is_open = False

    def open(self) -> None:
        """Let calls in from now on."""
        self._is_open = True

    def check_open(self) -> None:
        """:raises Unavailable: STARTING"""
        if not self._is_open:
            raise Unavailable("the service is starting", reason="STARTING", retry_after_s=_RETRY_AFTER_S)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count the call while the block runs.

        :raises Unavailable: STARTING
        :raises ResourceExhausted: TOO_MANY_CALLS
        """
        self.check_open()
        if self._running >= self._most_at_once:
            raise ResourceExhausted(
                f"{self._most_at_once} calls are being served", reason="TOO_MANY_CALLS", retry_after_s=_RETRY_AFTER_S
            )
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
