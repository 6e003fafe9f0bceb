"""Numbers for events, so that the server can tell when some of them never came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from steelyard.events import UsageEvent, new_event_id


class Numbering:
    """Counts 1, 2, 3 ... per source in one life of a client.

    An event that has a number keeps it, so one that comes back undelivered can be recorded again. A number is taken
    only when its event was: what is refused on the spot leaves no gap.
    """

    def __init__(self) -> None:
        self._epoch = new_event_id()
        self._last: dict[str, int] = {}

    def numbered(self, events: Sequence[UsageEvent], source: str) -> list[UsageEvent]:
        """The events with the numbers that are next; those without a source are of `source`."""
        last, found = dict[str, int](), list[UsageEvent]()
        for event in events:
            if event.sequence:
                found.append(event)
                continue
            name = event.source or source
            last[name] = last.get(name, self._last.get(name, 0)) + 1
            found.append(replace(event, sequence=last[name], sequence_epoch=self._epoch))
        return found

    def take(self, events: Sequence[UsageEvent], source: str) -> None:
        """Go on behind these events."""
        for event in events:
            if event.sequence_epoch == self._epoch:
                name = event.source or source
                self._last[name] = max(self._last.get(name, 0), event.sequence)
