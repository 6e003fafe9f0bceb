"""What may be under way: per stream, and of all streams together. Pure."""

from __future__ import annotations

from decimal import Decimal

from libs.errors import ResourceExhausted
from services.ingest.rpc.batch_limits import invalid
from services.ingest.usecases.errors import Overloaded

_RETRY_AFTER_S = Decimal("0.5")


class CreditExceeded(ResourceExhausted):
    """The caller has more under way than it was told."""

    reason = "CREDIT_EXCEEDED"


class StreamCredit:
    """Keeps count of the batches of one stream that are neither acknowledged nor failed."""

    def __init__(self, max_batches: int, max_bytes: int) -> None:
        self.max_batches = max_batches
        self.max_bytes = max_bytes
        self._under_way: dict[int, int] = {}
        self._bytes = 0
        self._last_number = 0

    def take(self, number: int, size_bytes: int) -> None:
        """Count a batch that arrived. A single batch is never too large for the credit.

        :raises InvalidInput: BATCH_NUMBER_NOT_GROWING
        :raises CreditExceeded: if the caller should have waited
        """
        if number <= self._last_number:
            description = f"must be greater than {self._last_number}, is {number}"
            raise invalid("batch.number", "BATCH_NUMBER_NOT_GROWING", description)
        if self._under_way:
            if len(self._under_way) >= self.max_batches:
                raise CreditExceeded(f"more than {self.max_batches} batches are under way")
            if self._bytes + size_bytes > self.max_bytes:
                raise CreditExceeded(f"more than {self.max_bytes} bytes are under way")
        self._last_number = number
        self._under_way[number] = size_bytes
        self._bytes += size_bytes

    def settle(self, number: int) -> None:
        """Forget a batch whose answer goes out."""
        self._bytes -= self._under_way.pop(number)


class StreamLoad:
    """The streams of this process, and the bytes they hold: batches until they are answered, then the answers."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self.streams = 0
        self.held_bytes = 0

    def hold(self, size_bytes: int) -> None:
        """:raises Overloaded: if that is too much"""
        if self.held_bytes + size_bytes > self._most_bytes:
            raise Overloaded("too many events wait on streams", retry_after_s=_RETRY_AFTER_S)
        self.held_bytes += size_bytes

    def exchange(self, old_bytes: int, new_bytes: int) -> None:
        """Hold something else instead, which is never refused."""
        self.held_bytes += new_bytes - old_bytes
