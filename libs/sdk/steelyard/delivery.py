"""What became of events."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from steelyard.ingest.v1 import ingest_service_pb2

_LOGGER = logging.getLogger("steelyard")


class Ack(Enum):
    """What an answer waits for."""

    QUEUED = ingest_service_pb2.ACK_LEVEL_QUEUED
    """On disk in the queue: fast; duplicates and conflicts are found later."""
    RECORDED = ingest_service_pb2.ACK_LEVEL_RECORDED
    """In the log: duplicates and conflicts are known."""


class Verdict(Enum):
    """What became of one event; see EventVerdict in the protos."""

    QUEUED = ingest_service_pb2.EVENT_VERDICT_QUEUED
    RECORDED = ingest_service_pb2.EVENT_VERDICT_RECORDED
    DUPLICATE = ingest_service_pb2.EVENT_VERDICT_DUPLICATE
    CONFLICT = ingest_service_pb2.EVENT_VERDICT_CONFLICT
    REJECTED = ingest_service_pb2.EVENT_VERDICT_REJECTED


@dataclass(frozen=True, slots=True)
class EventProblem:
    """Why an event was rejected or is in conflict."""

    event_id: str
    verdict: Verdict
    field: str
    reason: str
    description: str


def tell(on_problem: Callable[[EventProblem], None] | None, problems: Sequence[EventProblem]) -> None:
    """Call `on_problem` for each; what it raises is logged."""
    if on_problem is None:
        return
    for problem in problems:
        try:
            on_problem(problem)
        except Exception:
            _LOGGER.exception("on_problem failed for event %s", problem.event_id)


@dataclass(slots=True)
class DeliveryReport:
    """Counts by verdict, and the problems, of everything answered since the last report."""

    MAX_PROBLEMS = 10_000

    counts: Counter[Verdict] = field(default_factory=Counter)
    problems: list[EventProblem] = field(default_factory=list)

    def add(self, verdicts: list[Verdict], problems: list[EventProblem]) -> None:
        """Add the answer to one batch. Problems past MAX_PROBLEMS are counted but not kept."""
        self.counts.update(verdicts)
        self.problems.extend(problems[: self.MAX_PROBLEMS - len(self.problems)])

    @property
    def total(self) -> int:
        """How many events were answered."""
        return self.counts.total()
