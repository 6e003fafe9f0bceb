"""Asking whether batches are recorded, and what follows from the answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from steelyard.delivery import EventProblem, Verdict
from steelyard.errors import InvalidRequest, SteelyardError
from steelyard.ingest.v1 import ingest_service_pb2, usage_service_pb2
from steelyard.spool import metrics, outgoing
from steelyard.spool.file import SpoolFile
from steelyard.spool.outgoing import Awaiting, Receipt, Verdicts
from steelyard.spool.settings import SpoolOptions
from steelyard.spool.transport import Silenced, Transport

_LOGGER = logging.getLogger("steelyard")
_SHORTEST_MS, _LONGEST_MS = 1_000, 60_000
_AWAY_MS = 5_000
_MOST_PATIENCE_MS = 3_600_000
_RECEIPTS = 1_000
_TOO_MANY = "TOO_MANY_EXCEPTIONS"

Statuses = Mapping[Receipt, usage_service_pb2.BatchStatus]


class Confirmer:
    """Deletes what is recorded, sends again what is lost or takes too long, keeps what is parked."""

    def __init__(
        self,
        file: SpoolFile,
        transport: Transport,
        options: SpoolOptions,
        tell: Callable[[Sequence[EventProblem]], None],
    ) -> None:
        self._file, self._transport, self._tell = file, transport, tell
        self._lease_ms = int(options.lease_s * 1000)
        self._resend_after_ms = int(options.resend_after_s * 1000)
        self._away = False
        self.longest_pause_ms = _LONGEST_MS

    def confirm(self) -> bool:
        """Ask about what is due; False if nothing was, or nobody answers."""
        return self._confirm(_RECEIPTS)

    def _confirm(self, limit: int) -> bool:
        awaiting = outgoing.take_sent(self._file, _now_ms(), self._lease_ms, limit)
        if not awaiting:
            return False
        receipts = list(dict.fromkeys(item.receipt for item in awaiting))
        try:
            answer = self._transport.statuses(receipts)
        except SteelyardError as error:
            return self._failed(awaiting, error)
        if self._away:
            self._away = False
            _LOGGER.info("batches of %s are confirmed again", self._file.path)
        statuses = {(item.receipt.acceptor_epoch, item.receipt.batch_number): item for item in answer}
        self._apply(awaiting, statuses)
        return True

    def _failed(self, awaiting: Sequence[Awaiting], error: SteelyardError) -> bool:
        now_ms = _now_ms()
        too_many = isinstance(error, InvalidRequest) and any(v.reason == _TOO_MANY for v in error.violations)
        outgoing.put_back(self._file, {item.id: now_ms + (0 if too_many else _AWAY_MS) for item in awaiting})
        if too_many and len(awaiting) > 1:
            return self._confirm(len(awaiting) // 2)
        if not self._away and not isinstance(error, Silenced):
            self._away = True
            _LOGGER.warning("batches of %s cannot be confirmed: %s", self._file.path, error)
        return False

    def _apply(self, awaiting: Sequence[Awaiting], statuses: Statuses) -> None:
        now_ms = _now_ms()
        by_state: dict[int, list[Awaiting]] = {}
        for item in awaiting:
            state = statuses[item.receipt].state if item.receipt in statuses else usage_service_pb2.BATCH_STATE_QUEUED
            if state == usage_service_pb2.BATCH_STATE_QUEUED and now_ms - item.sent_ms >= self._patience_ms(item):
                state = usage_service_pb2.BATCH_STATE_LOST  # Or as good as.
            by_state.setdefault(state, []).append(item)
        recorded = by_state.pop(usage_service_pb2.BATCH_STATE_RECORDED, [])
        again = by_state.pop(usage_service_pb2.BATCH_STATE_LOST, [])
        problems = self._problems(recorded, statuses)
        conflicts = sum(problem.verdict is Verdict.CONFLICT for problem in problems)
        counts = {"conflicts": conflicts, "rejected": len(problems) - conflicts}
        verdicts = Verdicts(
            recorded=recorded,
            send_again=again,
            parked=by_state.get(usage_service_pb2.BATCH_STATE_PARKED, []),
            check_ms={
                item.id: now_ms + _pause_ms(now_ms - item.sent_ms) for rest in by_state.values() for item in rest
            },
            problems=counts,
        )
        outgoing.apply_verdicts(self._file, verdicts, now_ms)
        if again:
            _LOGGER.warning("%d batches of %s are sent again: they are not recorded", len(again), self._file.path)
        sums = {"recorded": recorded, "resent": again}
        metrics.count(self._file.path, {name: sum(x.events for x in items) for name, items in sums.items()} | counts)
        self._tell(problems)

    def _patience_ms(self, item: Awaiting) -> int:
        return min(self._resend_after_ms << min(item.resends, 20), max(self._resend_after_ms, _MOST_PATIENCE_MS))

    def _problems(self, recorded: Sequence[Awaiting], statuses: Statuses) -> list[EventProblem]:
        """What the recorder found wrong with events of ours; a batch may hold those of other callers, too."""
        concerned = [item for item in recorded if statuses[item.receipt].exceptions]
        if not concerned:
            return []
        problems = []
        payloads = outgoing.payloads(self._file, [item.id for item in concerned])
        for item, payload in zip(concerned, payloads, strict=True):
            ours = {
                (event.source, event.event_id)
                for event in ingest_service_pb2.IngestEventsRequest.FromString(payload).events
            }
            problems += [
                EventProblem(found.key.event_id, Verdict(found.verdict), found.field, found.reason, found.description)
                for found in statuses[item.receipt].exceptions
                if (found.key.source, found.key.event_id) in ours
            ]
        return problems


def _pause_ms(age_ms: int) -> int:
    """Ask young batches often, old ones rarely."""
    return min(max(age_ms // 2, _SHORTEST_MS), _LONGEST_MS)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
