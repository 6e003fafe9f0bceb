"""Events in memory, on their way to the disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from steelyard.spool.errors import SpoolClosed, SpoolError, SpoolFull
from steelyard.spool.settings import SpoolOptions, WhenFull

_LOOK_AGAIN_S = 0.1


@dataclass(frozen=True, slots=True)
class Group:
    """What is committed together: serialised events, and the trace of one of them or nothing."""

    events: Sequence[bytes]
    size_bytes: int
    trace_parent: str


class Buffer:
    """Takes events from any thread, gives them in groups to one writer.

    `used_bytes` reads how much the file holds. What it said last is remembered, since asking takes longer than a
    producer should have to wait.
    """

    def __init__(self, options: SpoolOptions, used_bytes: Callable[[], int]) -> None:
        self._options = options
        self._used_bytes = used_bytes
        self._disk_bytes = 0
        self._disk_limit = None if options.when_full is WhenFull.DROP_OLDEST else options.max_bytes
        self._wake_bytes = min(options.buffer_bytes // 2, 512_000)
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._filled = threading.Condition(self._lock)
        self._moved = threading.Condition(self._lock)
        self._events: list[bytes] = []
        self._bytes = self._taken_bytes = 0
        self._added = self._committed = 0
        self._urgent = self._closed = False
        self._failure: SpoolError | None = None
        self.trace_parent = ""

    def start_at(self, disk_bytes: int) -> None:
        """Say how much the file holds at first."""
        with self._lock:
            self._disk_bytes = disk_bytes

    def add(self, event: bytes, *, wait: bool = True) -> int:
        """Take one event and return its number; 0 if it would have to wait and must not.

        :raises SpoolFull, SpoolUnavailable, SpoolCorrupt, SpoolClosed: the event was not taken
        """
        with self._lock:
            while not self._has_room(len(event)):
                if self._options.when_full is WhenFull.RAISE:
                    self._look(len(event))
                    break
                if not wait:
                    return 0
                self._moved.wait(_LOOK_AGAIN_S)
                self._disk_bytes = self._ask()
            self._events.append(event)
            self._bytes += len(event)
            self._added += 1
            if len(self._events) == 1 or self._bytes >= self._wake_bytes:
                self._filled.notify()
            return self._added

    def wait_committed(self, number: int, timeout_s: float | None = None) -> None:
        """Return when the event and all before it are on disk.

        :raises SpoolUnavailable, SpoolCorrupt: if they cannot be written; they are kept in memory and tried again
        :raises TimeoutError: if they are not by then
        """
        ends_at = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            while self._committed < number:
                if self._failure is not None:
                    raise _again(self._failure)
                self._urgent = True
                self._filled.notify()
                left_s = None if ends_at is None else ends_at - time.monotonic()
                if left_s is not None and left_s <= 0:
                    raise TimeoutError(f"{number - self._committed} events are not on disk yet")
                self._moved.wait(left_s)

    def last_number(self) -> int:
        """The number of the event taken last."""
        with self._lock:
            return self._added

    def take(self) -> Group | None:
        """For the writer: return what there is, after the first event has waited its time. None: closed and empty."""
        with self._lock:
            while not self._events:
                if self._closed:
                    return None
                self._filled.wait()
            ends_at = time.monotonic() + self._options.commit_every_s
            while not (self._urgent or self._closed or self._bytes - self._taken_bytes >= self._wake_bytes):
                left_s = ends_at - time.monotonic()
                if left_s <= 0:
                    break
                self._filled.wait(left_s)
            group = Group(self._events, self._bytes - self._taken_bytes, self.trace_parent)
            self._events, self._urgent, self.trace_parent = [], False, ""
            self._taken_bytes += group.size_bytes
            return group

    def committed(self, group: Group, disk_bytes: int) -> None:
        """For the writer: the group is on disk."""
        with self._lock:
            self._committed += len(group.events)
            self._bytes -= group.size_bytes
            self._taken_bytes -= group.size_bytes
            self._disk_bytes, self._failure = disk_bytes, None
            self._moved.notify_all()

    def failed(self, error: SpoolError, pause_s: float) -> None:
        """For the writer: say so to all who wait and to all who come, and rest; cut short by close."""
        with self._lock:
            self._failure = error
            self._moved.notify_all()
            if not self._closed:
                self._filled.wait(pause_s)

    def close(self) -> None:
        """Take nothing more."""
        with self._lock:
            self._closed = True
            self._filled.notify()
            self._moved.notify_all()

    @property
    def is_closed(self) -> bool:
        return self._closed

    def waiting_events(self) -> int:
        """Events that are in memory only."""
        with self._lock:
            return self._added - self._committed

    def before_fork(self) -> None:
        """Let nobody in until after the fork."""
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Start empty: what the parent took is the parent's to write."""
        closed = self._closed
        self._reset()
        self._closed = closed

    def _has_room(self, size: int) -> bool:
        if self._closed:
            raise SpoolClosed("the spool is closed")
        if self._failure is not None:
            raise _again(self._failure)
        if self._bytes and self._bytes + size > self._options.buffer_bytes:
            return False
        return self._disk_limit is None or self._disk_bytes + self._bytes + size <= self._disk_limit

    def _look(self, size: int) -> None:
        """Ask the file; others may have made room.

        :raises SpoolFull: if there is none
        """
        self._disk_bytes = self._ask()
        if not self._has_room(size):
            held = self._disk_bytes + self._bytes
            raise SpoolFull(f"the spool holds {held} bytes, {self._options.max_bytes} are allowed", reason="SPOOL_FULL")

    def _ask(self) -> int:
        """Read the file without holding the lock, which the writer needs."""
        self._lock.release()
        try:
            return self._used_bytes()
        finally:
            self._lock.acquire()


def _again(error: SpoolError) -> SpoolError:
    """The same error, to be raised once more: an exception object that is raised twice mixes up its traces."""
    copy = type(error)(str(error.args[0]), reason=error.reason)
    copy.__cause__ = error
    return copy
