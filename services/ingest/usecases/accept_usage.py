"""Accept usage events: a verdict for each, and the good ones on disk before the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from opentelemetry import context as trace_context

from libs.errors import Violation
from services.ingest.domain.door import door_problems, time_problems
from services.ingest.domain.measuring import measure
from services.ingest.domain.recording import Fate
from services.ingest.domain.usage_batch import EventMessage, UsageColumns
from services.ingest.usecases.ports import TenantRules
from services.ingest.usecases.tenant_lanes import PendingCall, Stored, TenantLanes

_ANSWER_MARGIN_S = 0.1
"""Kept back from the caller's deadline, so that the answer still arrives."""
NOTHING_REFUSED: Mapping[int, Violation] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A fate per event (None: queued, the rest is not known yet) and the problems by index, ordered.

    `batch_number` is the batch that holds them, those refused at the door included.
    """

    batch_number: int
    fates: Sequence[Fate | None]
    problems: Sequence[tuple[int, Violation]]
    rejected_at_door: int


class AcceptUsage:
    """Checks events against the directory alone and puts them into the queue: it needs no database."""

    def __init__(self, *, tenants: TenantRules, lanes: TenantLanes) -> None:
        self._tenants = tenants
        self._lanes = lanes

    async def __call__(
        self,
        *,
        tenant_id: str,
        events: Sequence[EventMessage],
        size_bytes: int,
        wait_recorded: bool,
        time_left_s: float,
        refused: Mapping[int, Violation] = NOTHING_REFUSED,
    ) -> Acceptance:
        """Answer when the events are on disk, or, with `wait_recorded`, when they are recorded or time runs out.

        :param refused: by index: what is wrong with events that could not be read, and so pass no door
        :raises QueueUnavailable: if it is not known whether they are on disk
        :raises Overloaded: if they were not taken
        """
        loop = asyncio.get_running_loop()
        rules = self._tenants.rules(tenant_id)
        columns = UsageColumns.from_messages(events)
        at_door = door_problems(columns, rules.policy, rules.tenant_now)
        problems = {**time_problems(columns), **at_door, **refused}
        problems |= measure(columns, rules.meters, problems).problems
        accepted = [index for index in range(len(events)) if index not in problems]
        call = PendingCall(
            # As they are on the wire: copying messages into another one costs more than checking them.
            events=[events[index].SerializeToString() for index in accepted],
            rejected_events=[
                (events[index], problem) for index, problem in sorted(problems.items(), key=lambda item: item[0])
            ],
            size_bytes=size_bytes,
            accepted_at=rules.tenant_now,
            wants_outcome=wait_recorded and bool(accepted),
            context=trace_context.get_current(),
            stored=loop.create_future(),
        )
        ends_at = loop.time() + time_left_s - _ANSWER_MARGIN_S
        stored = await self._lanes.put(tenant_id, call, time_left_s - _ANSWER_MARGIN_S)
        fates: list[Fate | None] = [Fate.REJECTED if index in problems else None for index in range(len(events))]
        await _add_outcome(stored, accepted, fates, problems, ends_at - loop.time())
        ordered = sorted(problems.items(), key=lambda item: item[0])
        return Acceptance(stored.number, fates, ordered, rejected_at_door=len(events) - len(accepted))


async def _add_outcome(
    stored: Stored,
    accepted: Sequence[int],
    fates: list[Fate | None],
    problems: dict[int, Violation],
    time_left_s: float,
) -> None:
    """Fill in what the recorder says within the time left; without a word from it the events stay queued."""
    if stored.outcome is None:
        return
    await asyncio.wait({stored.outcome}, timeout=max(time_left_s, 0))
    if not stored.outcome.done():
        return
    for index in accepted:
        fates[index] = Fate.RECORDED
    for item in stored.outcome.result().exceptions:
        position = item.ordinal - stored.first_ordinal
        if 0 <= position < len(accepted):
            fates[accepted[position]] = item.fate
            if item.problem is not None:
                problems[accepted[position]] = item.problem
