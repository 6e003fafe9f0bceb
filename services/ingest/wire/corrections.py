"""Corrections on the wire."""

from __future__ import annotations

from collections.abc import Iterable

from services.ingest.domain.correction import Correction, CorrectionKind, CorrectionOutcome, CorrectionResult
from services.ingest.domain.event_key import EventKey
from services.ingest.usecases.corrections import ListedCorrection
from services.ingest.wire.times import time_to_pb
from steelyard.ingest.v1 import correction_service_pb2, usage_service_pb2

_KINDS = {
    CorrectionKind.VOID: usage_service_pb2.CORRECTION_KIND_VOID,
    CorrectionKind.REPLACE: usage_service_pb2.CORRECTION_KIND_REPLACE,
}
_OUTCOMES = {
    CorrectionOutcome.APPLIED: correction_service_pb2.CORRECTION_OUTCOME_APPLIED,
    CorrectionOutcome.WAITING: correction_service_pb2.CORRECTION_OUTCOME_WAITING,
    CorrectionOutcome.ALREADY: correction_service_pb2.CORRECTION_OUTCOME_ALREADY,
    CorrectionOutcome.REFUSED: correction_service_pb2.CORRECTION_OUTCOME_REFUSED,
}


def key_to_pb(key: EventKey) -> usage_service_pb2.EventKey:
    return usage_service_pb2.EventKey(source=key[0], event_id=key[1])


def keys_from_pb(messages: Iterable[usage_service_pb2.EventKey]) -> list[EventKey]:
    return [(message.source, message.event_id) for message in messages]


def correction_to_pb(correction: Correction) -> usage_service_pb2.Correction:
    return usage_service_pb2.Correction(
        kind=_KINDS[correction.kind],
        replacement=key_to_pb(correction.replacement) if correction.replacement else None,
        reason=correction.reason,
        actor=correction.actor,
        api_key_id=correction.api_key_id,
        create_time=time_to_pb(correction.corrected_at),
    )


def result_to_pb(result: CorrectionResult) -> correction_service_pb2.CorrectionResult:
    problem = result.problem
    return correction_service_pb2.CorrectionResult(
        outcome=_OUTCOMES[result.outcome],
        replacement=key_to_pb(result.replacement) if result.replacement else None,
        field=problem.field if problem else "",
        reason=problem.reason if problem else "",
        description=problem.description if problem else "",
    )


def listed_to_pb(item: ListedCorrection) -> correction_service_pb2.ListedCorrection:
    return correction_service_pb2.ListedCorrection(
        key=key_to_pb(item.key), correction=correction_to_pb(item.correction), waiting=item.waiting
    )
