"""Events cut into chunks, each as much as one call takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from libs.cli.event_file import EventFile, ReadEvent
from libs.cli.event_rows import START, Mark
from steelyard import UsageEvent

_MAX_EVENTS = 1_000
_MAX_BYTES = 700_000
_OVERHEAD_BYTES = 64
"""What an event's source (if it names none) and its place in the call add to its size, at most."""


@dataclass(slots=True)
class Chunk:
    """Events that stand one after the other, where the next one starts, and how much of the file's size is read."""

    events: list[UsageEvent] = field(default_factory=list)
    end: Mark = START
    reached: int = 0
    size_bytes: int = 0

    def has_room(self, item: ReadEvent) -> bool:
        size_bytes = self.size_bytes + item.size_bytes + _OVERHEAD_BYTES
        return not self.events or (len(self.events) < _MAX_EVENTS and size_bytes <= _MAX_BYTES)

    def add(self, item: ReadEvent, reached: int) -> None:
        self.events.append(item.event)
        self.size_bytes += item.size_bytes + _OVERHEAD_BYTES
        self.end, self.reached = item.end, reached


def chunks_of(file: EventFile, start: Mark) -> Iterator[Chunk]:
    """Yield the file's events from a mark on.

    :raises EventFileError, OSError: like EventFile.events; what stands before comes first
    """
    chunk = Chunk()
    try:
        for item in file.events(start):
            if not chunk.has_room(item):
                yield chunk
                chunk = Chunk()
            chunk.add(item, file.reached)
    except Exception:
        if chunk.events:
            yield chunk
        raise
    if chunk.events:
        yield chunk
