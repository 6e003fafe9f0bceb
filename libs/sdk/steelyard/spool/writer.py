"""The thread that puts events on disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

from steelyard.spool import metrics
from steelyard.spool.buffer import Buffer, Group
from steelyard.spool.errors import SpoolError
from steelyard.spool.file import SpoolFile
from steelyard.spool.incoming import NewBatch, append, frame
from steelyard.spool.settings import MAX_CALL_BYTES, SpoolOptions, WhenFull

_LOGGER = logging.getLogger("steelyard")
_REST_S = 0.5


class Writer:
    """Commits what the buffer takes, group by group. While that fails it holds the group and tries again."""

    def __init__(
        self, file: SpoolFile, buffer: Buffer, options: SpoolOptions, on_committed: Callable[[], None]
    ) -> None:
        self._file, self._buffer, self._options = file, buffer, options
        self._on_committed = on_committed
        self._make_room_below = options.max_bytes if options.when_full is WhenFull.DROP_OLDEST else None

    def run(self) -> None:
        """Write until the buffer is closed and empty, or closed and the disk does not take what is left."""
        while (group := self._buffer.take()) is not None:
            while not self._commit(group):
                if self._buffer.is_closed:
                    return

    def _commit(self, group: Group) -> bool:
        try:
            batches = list(cut(group, self._options.batch_events))
            done = append(self._file, batches, time.time_ns() // 1_000_000, self._make_room_below)
        except SpoolError as error:
            _LOGGER.error("%d events wait for the disk: %s", len(group.events), error)
            self._buffer.failed(error, _REST_S)
            return False
        except BaseException as error:  # A bug of ours: whoever records must hear of it, and the events are kept.
            _LOGGER.exception("%d events wait for the disk", len(group.events))
            self._buffer.failed(SpoolError(f"the spool failed: {error!r}"), _REST_S)
            return False
        if done.dropped:
            _LOGGER.error("%s is full: %d events are dropped", self._file.path, done.dropped)
        metrics.count(self._file.path, {"dropped": done.dropped, "released": done.released})
        self._buffer.committed(group, done.used_bytes)
        self._on_committed()
        return True


def cut(group: Group, batch_events: int) -> Iterator[NewBatch]:
    """Cut a group into rows, each small enough for a call of its own."""
    parts: list[bytes] = []
    size = 0
    for event in map(frame, group.events):
        if parts and (len(parts) >= batch_events or size + len(event) > MAX_CALL_BYTES):
            yield NewBatch(b"".join(parts), len(parts), group.trace_parent)
            parts, size = [], 0
        parts.append(event)
        size += len(event)
    if parts:
        yield NewBatch(b"".join(parts), len(parts), group.trace_parent)
