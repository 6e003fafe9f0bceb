"""The spool as producers use it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Self

from steelyard.delivery import EventProblem, tell
from steelyard.errors import SteelyardError
from steelyard.events import PropertyValue, UsageEvent, make_event
from steelyard.settings import Endpoints
from steelyard.spool import metrics, outgoing, processes
from steelyard.spool.buffer import Buffer
from steelyard.spool.encoding import encode, trace_parent
from steelyard.spool.errors import SpoolError
from steelyard.spool.file import SpoolFile
from steelyard.spool.incoming import used_bytes
from steelyard.spool.sender import Sender
from steelyard.spool.settings import SpoolOptions
from steelyard.spool.stats import DeadLetter, SpoolStats, read_dead_letters, read_stats
from steelyard.spool.transport import Transport
from steelyard.spool.writer import Writer


class Spool:
    """Keeps usage events in a file until they are recorded::

        spool = Spool("/var/lib/app/usage.spool", api_key="sy_...", source="api-gateway")
        spool.record("llm.request", "cust-01", {"input_tokens": 812})

    Safe for threads, from asyncio (`record` waits for no network; see record_async), after a fork, and for several
    processes on one file. Two daemon threads per process write and send. They are started by the first `record`, by
    `with`, or by `start`, and then also send what an earlier process has left.

    When is an event safe? `record` returns when it is in memory; it is on disk, fsynced, at most about
    `commit_every_s` (50 ms) later. Until then kill -9 or a power cut can take it. `flush` returns when everything
    recorded before is on disk, `record(durable=True)` when this event is: nothing but a broken disk takes it then, and
    it is sent, by this process or any other with the file, until the server has *recorded* it. `close` flushes, and so
    does a normal end of the program; os._exit does not.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        api_key: str = "",
        endpoints: Endpoints | None = None,
        source: str = "sdk",
        tenant_id: str = "",
        options: SpoolOptions | None = None,
        on_problem: Callable[[EventProblem], None] | None = None,
    ) -> None:
        """Open the file, or make it. It must be on a local file system and belongs to one tenant.

        :param api_key: without one this process only writes; another one sends, for example `steelyard spool drain`
        :param endpoints: default: from the environment; `ingest` and `query` are needed for sending
        :param on_problem: called on the spool's thread for each rejected or conflicting event, at least once
        :raises SpoolUnavailable, SpoolCorrupt, SpoolFormatNewer, SpoolOfOther: if the file cannot be used
        :raises SteelyardError: if there is a key but no endpoint, or one that can be in no call
        """
        self._options = options or SpoolOptions()
        self._source, self._on_problem = source, on_problem
        self._file = SpoolFile(path, tenant_id)
        self._buffer = Buffer(self._options, self._read_used)
        self._transport: Transport | None = None
        if api_key:
            where = endpoints or Endpoints.from_env()
            if not (where.ingest and where.query):
                raise SteelyardError("sending needs ingest and query: set them in Endpoints or the environment")
            self._transport = Transport(where, api_key, tenant_id, self._options.call_timeout_s)
        self._starting = threading.Lock()
        self._running = False
        self._threads: list[threading.Thread] = []
        self._sender: Sender | None = None
        processes.opened(self)  # Before there is a connection that a fork could carry over.
        try:
            self._buffer.start_at(self._read_used())
        except SpoolError:
            processes.closed(self)
            raise
        metrics.observe(self)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None
    ) -> None:
        self.close()

    @property
    def path(self) -> str:
        """The file, absolute."""
        return self._file.path

    def start(self) -> None:
        """Begin to write and send in this process, if that has not begun yet."""
        with self._starting:
            if self._running or self._buffer.is_closed:
                return
            writer = Writer(self._file, self._buffer, self._options, self._wake_sender)
            self._threads = [threading.Thread(target=writer.run, name="steelyard-spool-write", daemon=True)]
            if self._transport is not None:
                self._sender = Sender(self._file, self._transport, self._options, partial(tell, self._on_problem))
                self._threads.append(
                    threading.Thread(target=self._sender.run, name="steelyard-spool-send", daemon=True)
                )
            for thread in self._threads:
                thread.start()
            self._running = True

    def record(
        self,
        event_type: str,
        customer_id: str,
        properties: Mapping[str, PropertyValue] | None = None,
        *,
        event_id: str | None = None,
        event_time: datetime | None = None,
        durable: bool = False,
    ) -> str:
        """Take one event and return its id. With `durable` it is on disk when this returns.

        Waits only where WhenFull.BLOCK says so, and while the disk is slower than the producer. Not for signal
        handlers.

        :raises TypeError, ValueError: if the event cannot be encoded
        :raises InvalidRequest: if it is larger than a call may be
        :raises SpoolFull, SpoolUnavailable, SpoolCorrupt, SpoolClosed: it was not taken; with `durable` it may be in
            memory all the same: record it again with the same event_id
        """
        event = make_event(event_type, customer_id, properties, event_id, event_time)
        self.record_event(event, durable=durable)
        return event.event_id

    def record_event(self, event: UsageEvent, *, durable: bool = False) -> None:
        """Like record, with an event."""
        number = self._add(event, wait=True)
        if durable:
            self._buffer.wait_committed(number)

    async def record_async(self, event: UsageEvent, *, durable: bool = False) -> None:
        """Like record_event, but where that would stand still, only this task does."""
        number = self._add(event, wait=False)
        if not number:
            await asyncio.to_thread(self.record_event, event, durable=durable)
        elif durable:
            await asyncio.to_thread(self._buffer.wait_committed, number)

    def flush(self, timeout_s: float | None = None) -> None:
        """Return when every event that was recorded before is on disk.

        :raises SpoolUnavailable, SpoolCorrupt: if the disk does not take them; they stay in memory and are tried again
        :raises TimeoutError: if it has not by then
        """
        self._buffer.wait_committed(self._buffer.last_number(), timeout_s)

    async def flush_async(self, timeout_s: float | None = None) -> None:
        """Like flush, for asyncio."""
        await asyncio.to_thread(self.flush, timeout_s)

    def drain(self, timeout_s: float) -> bool:
        """Wait until everything in the file is recorded, parked or dead; False if it is not by then.

        :raises SpoolError: like flush
        """
        self.start()
        ends_at = time.monotonic() + timeout_s
        self.flush(timeout_s)
        while (stats := self.stats()).pending.batches or stats.sent.batches:
            if time.monotonic() >= ends_at:
                return False
            time.sleep(0.05)
        return True

    def stats(self) -> SpoolStats:
        """
        :raises SpoolError: if the file cannot be read
        """
        return read_stats(self._file, time.time_ns() // 1_000_000)

    @property
    def buffered_events(self) -> int:
        """Events of this process that are not on disk yet."""
        return self._buffer.waiting_events()

    @property
    def last_error(self) -> str:
        """Why this process does not get rid of its events at present; empty if nothing hinders it."""
        return self._sender.last_error if self._sender is not None else ""

    def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """Batches that were refused as a whole or damaged on disk, the oldest first."""
        return read_dead_letters(self._file, limit)

    def retry_dead_letters(self) -> int:
        """Send every dead letter once more; return how many events they have."""
        events = outgoing.revive(self._file, time.time_ns() // 1_000_000)
        self._wake_sender()
        return events

    def close(self, timeout_s: float = 10.0) -> None:
        """Flush, and let go of the file. What is in it is sent by others, or by the next one to open it.

        :raises SpoolUnavailable: if the disk does not take what is still in memory: it goes with the process
        """
        self._buffer.close()
        if self._sender is not None:
            self._sender.stopping = True
            self._sender.wake.set()
        if self._transport is not None:
            self._transport.stop()
        ends_at = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, ends_at - time.monotonic()))
        processes.closed(self)
        metrics.forget(self)
        self._file.close()
        if lost := self._buffer.waiting_events():
            raise SpoolError(f"{lost} events could not be written to {self.path}", reason="NOT_FLUSHED")

    def _add(self, event: UsageEvent, *, wait: bool) -> int:
        encoded = encode(event, self._source)
        if not self._running:
            self.start()
        if not self._buffer.trace_parent:
            self._buffer.trace_parent = trace_parent()
        return self._buffer.add(encoded, wait=wait)

    def _read_used(self) -> int:
        with self._file.reading() as connection:
            return used_bytes(connection)

    def _wake_sender(self) -> None:
        if self._sender is not None:
            self._sender.wake.set()

    def before_fork(self) -> None:
        """Close what must not be carried over, and hold every lock that a child would find locked for ever."""
        self._starting.acquire()
        self._buffer.before_fork()
        if self._transport is not None:
            self._transport.before_fork()
        self._file.before_fork()

    def after_fork_in_parent(self) -> None:
        self._file.after_fork_in_parent()
        if self._transport is not None:
            self._transport.after_fork_in_parent()
        self._buffer.after_fork_in_parent()
        self._starting.release()

    def after_fork_in_child(self) -> None:
        self._starting = threading.Lock()
        self._file.after_fork_in_child()
        if self._transport is not None:
            self._transport.after_fork_in_child()
        self._buffer.after_fork_in_child()
        self._running, self._threads, self._sender = False, [], None
