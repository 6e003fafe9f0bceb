"""What is under way on one stream of events, and what may be sent. No I/O."""

from __future__ import annotations

from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class Window(Generic[ItemT]):
    """Items sent and not answered, by number, within the credit that the server gave."""

    def __init__(self) -> None:
        self.answered = 0
        self._max_batches, self._max_bytes = 0, 0
        self._under_way: dict[int, tuple[ItemT, int]] = {}
        self._bytes = 0
        self.next_number = 1

    def __len__(self) -> int:
        return len(self._under_way)

    def grant(self, max_batches: int, max_bytes: int) -> None:
        """Replace the credit; what is under way already may exceed the new one."""
        self._max_batches, self._max_bytes = max_batches, max_bytes

    def has_room(self, size_bytes: int) -> bool:
        """Whether an item of this size may be sent now; a single one always may, once there is any credit."""
        if not self._under_way:
            return self._max_batches > 0
        return len(self._under_way) < self._max_batches and self._bytes + size_bytes <= self._max_bytes

    def add(self, item: ItemT, size_bytes: int) -> None:
        """Note that an item is sent under `next_number`, which is 1, 2, 3 ..."""
        self._under_way[self.next_number] = (item, size_bytes)
        self.next_number += 1
        self._bytes += size_bytes

    def settle(self, number: int) -> ItemT | None:
        """Return the item that was answered; None if there is no such number under way."""
        found = self._under_way.pop(number, None)
        if found is None:
            return None
        self._bytes -= found[1]
        self.answered += 1
        return found[0]

    def unanswered(self) -> list[ItemT]:
        """What has to be sent again if the stream ended, in the order of sending."""
        return [item for item, _ in self._under_way.values()]
