"""Record events in the place of recorded ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from libs.clock import Clock
from libs.errors import Violation
from services.ingest.domain.correction import (
    ID_TAKEN,
    Correction,
    CorrectionKind,
    CorrectionOutcome,
    CorrectionResult,
    Proposal,
    decide_replacements,
    derived_event_id,
)
from services.ingest.domain.door import door_problems
from services.ingest.domain.event_key import EventKey
from services.ingest.domain.measuring import measure
from services.ingest.domain.meter import Meter
from services.ingest.domain.meter_versions import counting
from services.ingest.domain.recording import RecordingBatch
from services.ingest.domain.usage_batch import MAX_BATCH_EVENTS, UsageBatch, UsageColumns
from services.ingest.usecases.accept_usage import NOTHING_REFUSED
from services.ingest.usecases.corrections import CorrectionRequest, CorrectionStore, CorrectionTransactions
from services.ingest.usecases.ports import AcceptanceRules, RecordingTransactions, TenantRules
from services.ingest.usecases.record_usage import settle_fates, window_changes

BATCH_PREFIX = "correction:"
"""Batches of replacements bear it where others have the epoch of an acceptor; the id of the correction follows."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Replacements:
    """Row i of `events` in the place of `originals[i]`; `refused`, by index, is what is wrong with events that could
    not be read."""

    originals: Sequence[EventKey]
    events: UsageColumns
    refused: Mapping[int, Violation]

    @classmethod
    def complete(
        cls, originals: Sequence[EventKey], events: UsageColumns, refused: Mapping[int, Violation] = NOTHING_REFUSED
    ) -> Replacements:
        """With sources and ids where the caller left them out."""
        pairs = list(zip(originals, events.sources, events.event_ids, strict=True))
        sources = [source or original[0] for original, source, _ in pairs]
        event_ids = [event_id or derived_event_id(original) for original, _, event_id in pairs]
        return cls(originals, dataclasses.replace(events, sources=sources, event_ids=event_ids), refused)

    @property
    def keys(self) -> list[EventKey]:
        return list(zip(self.events.sources, self.events.event_ids, strict=True))

    def proposals(self, problems: Mapping[int, Violation]) -> list[Proposal]:
        # A time that is none cannot even be hashed.
        good = [row for row in range(len(self.events)) if row not in problems]
        hashes = dict(zip(good, self.events.of(good).payload_hashes(), strict=True))
        columns = zip(self.originals, self.keys, strict=True)
        return [Proposal(*column, hashes.get(row, b""), problems.get(row)) for row, column in enumerate(columns)]


@dataclass(frozen=True, slots=True)
class _Call:
    """One call, at one moment."""

    request: CorrectionRequest
    wanted: Replacements
    rules: AcceptanceRules
    correction_id: str
    now: datetime

    def door_problems(self) -> dict[int, Violation]:
        """By row. Usage of any time can be corrected, so only the future has a limit."""
        tenant_now = self.rules.tenant_now
        policy = dataclasses.replace(self.rules.policy, past_limit=tenant_now - _EPOCH)
        return {**door_problems(self.wanted.events, policy, tenant_now), **self.wanted.refused}

    def corrections(self, results: Sequence[CorrectionResult]) -> dict[EventKey, Correction]:
        """Of the originals that are replaced, in order."""
        said = (self.request.reason, self.request.actor, self.request.api_key_id, self.now)
        return {
            self.wanted.originals[row]: Correction(CorrectionKind.REPLACE, results[row].replacement, *said)
            for row in _applied(results)
        }


class ReplaceEvents:
    """Records replacements as any event, and marks the originals, in one transaction."""

    def __init__(
        self,
        *,
        transactions: CorrectionTransactions,
        partitions: RecordingTransactions,
        tenants: TenantRules,
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self._transactions = transactions
        self._partitions = partitions
        self._tenants = tenants
        self._clock = clock
        self._new_id = new_id

    async def __call__(self, request: CorrectionRequest, wanted: Replacements) -> list[CorrectionResult]:
        """Return a result per replacement, in order.

        :raises InvalidInput: naming what is wrong; nothing is stored
        :raises RequestIdReused: if the id came with another request before
        """
        request.check(wanted.originals, "replacements[{}].original")
        rules = self._tenants.rules(request.tenant_id)
        call = _Call(request, wanted, rules, self._new_id(), self._clock())
        problems = call.door_problems()
        await self._partitions.ensure_partitions([call.now])
        async with self._transactions(request.tenant_id) as store:
            answered = await store.begin(request, call.correction_id, call.now)
            return await _replace(store, call, problems) if answered is None else answered


async def _replace(store: CorrectionStore, call: _Call, problems: dict[int, Violation]) -> list[CorrectionResult]:
    wanted, tenant_id = call.wanted, call.request.tenant_id
    meters = (await store.recording.meters([tenant_id])).get(tenant_id, ())
    # Not those of the door: the transaction sees meters that the directory may not have yet.
    problems |= measure(wanted.events, counting(meters, call.now), problems).problems
    possible = {key for row, key in enumerate(wanted.keys) if row not in problems}
    known = await store.known(possible.union(wanted.originals))
    results = decide_replacements(wanted.proposals(problems), known)
    rows = _applied(results)
    batches = await _record(store, call, rows, meters)
    for number, batch in enumerate(batches):
        for found in batch.exceptions:  # A recorder was faster: it has taken the id since it was looked up.
            results[rows[number * MAX_BATCH_EVENTS + found.ordinal]] = ID_TAKEN
    corrections = call.corrections(results)
    await store.add(call.correction_id, corrections, ())
    await store.answer(call.correction_id, results)
    if batches:
        await store.recording.add_counts(batches)
        added = window_changes(batches).get(tenant_id, ())
        await store.recompute_windows(meters, corrections, added, call.now)
    return results


async def _record(
    store: CorrectionStore, call: _Call, rows: Sequence[int], meters: Sequence[Meter]
) -> list[RecordingBatch]:
    """Record rows as batches of their own, in the order in which recorders do it."""
    if not rows:
        return []
    batches = [
        _batch(call, number, rows[first : first + MAX_BATCH_EVENTS], len(rows))
        for number, first in enumerate(range(0, len(rows), MAX_BATCH_EVENTS), start=1)
    ]
    ids = await store.recording.add_batches(batches)
    recording = [RecordingBatch.start(batch, ids[index], meters) for index, batch in enumerate(batches)]
    await settle_fates(store.recording, recording)
    await store.recording.add_events(recording)
    await store.recording.add_outcomes(recording)
    return recording


def _batch(call: _Call, number: int, rows: Sequence[int], total: int) -> UsageBatch:
    return UsageBatch(
        tenant_id=call.request.tenant_id,
        acceptor_epoch=f"{BATCH_PREFIX}{call.correction_id}",
        batch_number=number,
        received_at=call.now,
        accepted_at=call.rules.tenant_now,
        events=call.wanted.events.of(rows),
        rejected=(),
        accepted_total=total,
        rejected_total=0,
        abandoned_numbers=(),
        trace_parent="",
    )


def _applied(results: Sequence[CorrectionResult]) -> list[int]:
    return [row for row, result in enumerate(results) if result.outcome is CorrectionOutcome.APPLIED]
