"""The thread that sends what is in the file, and deletes it once it is recorded."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence

from steelyard.delivery import EventProblem, Verdict
from steelyard.errors import InvalidRequest, NotAllowed, ServerError, SteelyardError, Unavailable
from steelyard.ingest.v1 import ingest_service_pb2
from steelyard.retry import pause_s
from steelyard.spool import metrics, outgoing
from steelyard.spool.confirming import Confirmer
from steelyard.spool.errors import SpoolError
from steelyard.spool.file import SpoolFile
from steelyard.spool.outgoing import ALONE_AFTER, Outgoing
from steelyard.spool.settings import SpoolOptions
from steelyard.spool.transport import Silenced, Transport

_LOGGER = logging.getLogger("steelyard")
_IDLE_S = 0.5
_FIRST_CHECK_MS = 1_000
_KEY_PAUSE_S = 30.0
_LONGEST_FAILURE_PAUSE_S = 60
_HEAL_EVERY_S = 60.0

Tell = Callable[[Sequence[EventProblem]], None]


class Sender:
    """Sends and confirms, for all processes that write to the file. Runs until `stopping` is set."""

    def __init__(self, file: SpoolFile, transport: Transport, options: SpoolOptions, tell: Tell) -> None:
        self._file, self._transport, self._options, self._tell = file, transport, options, tell
        self._lease_ms = int(options.lease_s * 1000)
        self._confirmer = Confirmer(file, transport, options, tell)
        self._random = random.Random()  # noqa: S311 - jitter, not a secret
        self._attempts = 0
        self._send_at_s = self._heal_at_s = 0.0
        self.last_error = ""
        self.stopping = False
        self.wake = threading.Event()

    def run(self) -> None:
        """Never ends by an error: what cannot be done now is tried again."""
        while not self.stopping:
            try:
                busy = self.step()
            except SpoolError as error:
                self._complain(error)
                busy = False
            except Exception as error:
                _LOGGER.exception("the spool %s cannot be sent", self._file.path)
                self.last_error = repr(error)
                busy = False
            if not busy:
                self.wake.wait(_IDLE_S)
                self.wake.clear()

    def step(self) -> bool:
        """Send one call's worth and ask about what is due, or else tidy up; whether there was anything to do."""
        now_s = time.monotonic()
        if now_s >= self._heal_at_s:
            self._heal_at_s = now_s + _HEAL_EVERY_S
            horizon_ms = self._lease_ms + self._confirmer.longest_pause_ms + _LONGEST_FAILURE_PAUSE_S * 1000
            outgoing.heal_clock(self._file, _now_ms(), horizon_ms)
        sent = now_s >= self._send_at_s and self._send()
        return self._confirmer.confirm() or sent or self._file.shrink()

    def _send(self) -> bool:
        batches = outgoing.take_pending(self._file, _now_ms(), self._lease_ms)
        if not batches:
            return False
        events = b"".join(batch.payload for batch in batches)
        trace_parent = next((batch.trace_parent for batch in batches if batch.trace_parent), "")
        try:
            answer = self._transport.send(events, trace_parent)
            _check(answer, sum(batch.events for batch in batches))
        except SteelyardError as error:
            self._failed(batches, error)
            return True
        self._attempts, self.last_error = 0, ""
        self._note_problems(batches, events, answer)
        receipt = (answer.receipt.acceptor_epoch, answer.receipt.batch_number)
        now_ms = _now_ms()
        outgoing.note_sent(self._file, batches, receipt, now_ms, now_ms + _FIRST_CHECK_MS)
        return True

    def _note_problems(
        self, batches: Sequence[Outgoing], events: bytes, answer: ingest_service_pb2.IngestEventsResponse
    ) -> None:
        """Report what the door refused; not once more when a batch is sent again."""
        if not answer.problems:
            return
        known = [batch.resends > 0 for batch in batches for _ in range(batch.events)]
        sent = ingest_service_pb2.IngestEventsRequest.FromString(events).events
        problems = [
            EventProblem(
                sent[item.index].event_id,
                Verdict(answer.verdicts[item.index]),
                item.field,
                item.reason,
                item.description,
            )
            for item in answer.problems
            if not known[item.index]
        ]
        outgoing.add_counts(self._file, {"rejected": len(problems)})
        metrics.count(self._file.path, {"rejected": len(problems)})
        self._tell(problems)

    def _failed(self, batches: Sequence[Outgoing], error: SteelyardError) -> None:
        """Decide whether the server, the key or a batch is at fault."""
        now_ms = _now_ms()
        if isinstance(error, InvalidRequest):
            self._refused(batches, error, now_ms)
        elif isinstance(error, ServerError):
            # It may be the fault of one batch: each is put off for itself, and is soon sent alone.
            self._complain(error)
            due = {batch.id: now_ms + 1000 * min(2**batch.failures, _LONGEST_FAILURE_PAUSE_S) for batch in batches}
            outgoing.put_back(self._file, due, failures=1)
        else:
            self._complain(error)
            self._attempts += 1
            rest_s = pause_s(self._attempts, self._options.backoff_s, error, self._random)
            if isinstance(error, NotAllowed):
                # Nothing is wrong with the batch; with another key it will pass. So it is not set aside.
                rest_s = _KEY_PAUSE_S
            self._send_at_s = time.monotonic() + rest_s
            outgoing.put_back(self._file, {batch.id: now_ms for batch in batches})

    def _refused(self, batches: Sequence[Outgoing], error: InvalidRequest, now_ms: int) -> None:
        if len(batches) > 1:  # One of them is at fault.
            outgoing.put_back(self._file, {batch.id: now_ms for batch in batches}, failures=ALONE_AFTER)
            return
        (batch,) = batches
        if outgoing.set_aside(self._file, [batch.id], f"{error}", self._options.max_dead_bytes):
            _LOGGER.error("%d events are refused and set aside: %s", batch.events, error)
            metrics.count(self._file.path, {"refused": batch.events})
        else:
            self._complain(error)
            outgoing.put_back(self._file, {batch.id: now_ms + 1000 * _LONGEST_FAILURE_PAUSE_S}, failures=1)

    def _complain(self, error: SteelyardError) -> None:
        """Log a failure when it begins, not at every try."""
        if isinstance(error, Silenced):
            return
        text = str(error)
        if type(error).__name__ not in self.last_error:
            level = logging.WARNING if isinstance(error, Unavailable) else logging.ERROR
            _LOGGER.log(level, "the spool %s waits: %s: %s", self._file.path, type(error).__name__, text)
        self.last_error = f"{type(error).__name__}: {text}"


def _check(answer: ingest_service_pb2.IngestEventsResponse, events: int) -> None:
    """
    :raises ServerError: if the answer cannot be one to these events
    """
    if len(answer.verdicts) != events:
        raise ServerError(f"{len(answer.verdicts)} verdicts for {events} events")
    if answer.receipt.batch_number < 1:
        raise ServerError("no receipt: the server is too old to confirm what it records")
    if any(item.index >= events for item in answer.problems):
        raise ServerError("a problem of an event that was not sent")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
