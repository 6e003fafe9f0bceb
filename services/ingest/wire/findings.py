"""Findings, manifests and expectations on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from libs.errors import InvalidInput
from libs.money import DecimalRejected, parse_decimal, plain
from services.ingest.domain.findings import (
    DEFAULT_ALLOWANCE,
    Finding,
    FindingKind,
    Manifest,
    ManifestLine,
    ManifestState,
    Resolution,
    Source,
    SourceExpectation,
)
from services.ingest.wire.times import time_to_pb
from steelyard.ingest.v1 import finding_pb2
from steelyard.ingest.v1 import finding_service_pb2 as pb

KINDS: dict[int, FindingKind] = {
    finding_pb2.FINDING_KIND_SEQUENCE_GAP: FindingKind.SEQUENCE_GAP,
    finding_pb2.FINDING_KIND_SEQUENCE_UNUSABLE: FindingKind.SEQUENCE_UNUSABLE,
    finding_pb2.FINDING_KIND_SOURCE_SILENT: FindingKind.SOURCE_SILENT,
    finding_pb2.FINDING_KIND_MANIFEST_DISAGREES: FindingKind.MANIFEST_DISAGREES,
}
_KINDS_PB = {
    FindingKind.SEQUENCE_GAP: finding_pb2.FINDING_KIND_SEQUENCE_GAP,
    FindingKind.SEQUENCE_UNUSABLE: finding_pb2.FINDING_KIND_SEQUENCE_UNUSABLE,
    FindingKind.SOURCE_SILENT: finding_pb2.FINDING_KIND_SOURCE_SILENT,
    FindingKind.MANIFEST_DISAGREES: finding_pb2.FINDING_KIND_MANIFEST_DISAGREES,
}
_RESOLUTIONS = {
    Resolution.NONE: finding_pb2.FINDING_RESOLUTION_UNSPECIFIED,
    Resolution.ITSELF: finding_pb2.FINDING_RESOLUTION_ITSELF,
    Resolution.PERSON: finding_pb2.FINDING_RESOLUTION_PERSON,
}
_STATES = {
    ManifestState.PENDING: pb.MANIFEST_STATE_PENDING,
    ManifestState.AGREED: pb.MANIFEST_STATE_AGREED,
    ManifestState.DISAGREED: pb.MANIFEST_STATE_DISAGREED,
    ManifestState.REPLACED: pb.MANIFEST_STATE_REPLACED,
}


def finding_to_pb(finding: Finding) -> finding_pb2.Finding:
    message = finding_pb2.Finding(
        finding_id=finding.finding_id,
        kind=_KINDS_PB[finding.kind],
        source=finding.source,
        holds_invoices=finding.holds_invoices,
        open_time=time_to_pb(finding.opened_at),
        update_time=time_to_pb(finding.updated_at),
        resolve_time=_optional_time(finding.resolved_at),
        resolution=_RESOLUTIONS[finding.resolution],
        reason=finding.reason,
        actor=finding.actor,
    )
    evidence: Mapping[str, Any] = finding.evidence
    if finding.kind is FindingKind.SOURCE_SILENT:
        message.silence.CopyFrom(_silence_to_pb(evidence))
    elif finding.kind is FindingKind.MANIFEST_DISAGREES:
        message.manifest.CopyFrom(_disagreement_to_pb(evidence))
    else:
        message.sequence.CopyFrom(_sequence_to_pb(evidence))
    return message


def _sequence_to_pb(evidence: Mapping[str, Any]) -> finding_pb2.SequenceEvidence:
    return finding_pb2.SequenceEvidence(
        sequence_epoch=evidence["sequence_epoch"],
        first_missing=evidence["first_missing"],
        last_missing=evidence["last_missing"],
        missing_count=evidence["missing_count"],
        before_time=_stored_time(evidence["before_time"]),
        after_time=_stored_time(evidence["after_time"]),
    )


def _silence_to_pb(evidence: Mapping[str, Any]) -> finding_pb2.SilenceEvidence:
    return finding_pb2.SilenceEvidence(
        last_time=_stored_time(evidence["last_time"]),
        expected_within=Duration(seconds=evidence["expected_within_s"]),
        is_learned=evidence["is_learned"],
    )


def _disagreement_to_pb(evidence: Mapping[str, Any]) -> finding_pb2.ManifestEvidence:
    return finding_pb2.ManifestEvidence(
        manifest_id=evidence["manifest_id"],
        difference_count=evidence["difference_count"],
        differences=[finding_pb2.ManifestDifference(**difference) for difference in evidence["differences"]],
    )


def manifest_to_pb(manifest: Manifest) -> pb.Manifest:
    return pb.Manifest(
        manifest_id=manifest.manifest_id,
        source=manifest.source,
        start_time=time_to_pb(manifest.start),
        end_time=time_to_pb(manifest.end),
        version=manifest.version,
        lines=[_line_to_pb(line) for line in manifest.lines],
        state=_STATES[manifest.state],
        submit_time=time_to_pb(manifest.submitted_at),
        compare_time=_optional_time(manifest.compared_at),
    )


def _line_to_pb(line: ManifestLine) -> pb.ManifestLine:
    total = "" if line.total is None else plain(line.total)
    return pb.ManifestLine(
        meter_id=line.meter_id, customer_id=line.customer_id, event_count=line.event_count, sum=total
    )


def line_from_pb(message: pb.ManifestLine, field: str) -> ManifestLine:
    """
    :raises InvalidInput: if its sum is no number
    """
    try:
        total = parse_decimal(message.sum) if message.sum else None
    except DecimalRejected as error:
        raise InvalidInput.of(f"{field}.sum", error.reason, str(error)) from error
    return ManifestLine(message.meter_id, message.customer_id, message.event_count, total)


def expectation_from_pb(message: pb.SourceExpectation) -> SourceExpectation:
    """
    :raises InvalidInput: if a kind is none, or a duration is beyond all reason
    """
    kinds = set()
    for index, kind in enumerate(message.holding_kinds):
        if kind not in KINDS:
            raise InvalidInput.of(f"expectation.holding_kinds[{index}]", "UNKNOWN", "is not a kind of finding")
        kinds.add(KINDS[kind])
    heartbeat = _duration(message.heartbeat, "expectation.heartbeat") if message.HasField("heartbeat") else None
    allowance = DEFAULT_ALLOWANCE
    if message.HasField("allowance"):
        allowance = _duration(message.allowance, "expectation.allowance")
    return SourceExpectation(message.source, heartbeat, message.learns_cadence, allowance, frozenset(kinds))


def expectation_to_pb(expectation: SourceExpectation) -> pb.SourceExpectation:
    return pb.SourceExpectation(
        source=expectation.source,
        heartbeat=None if expectation.heartbeat is None else _duration_to_pb(expectation.heartbeat),
        learns_cadence=expectation.learns_cadence,
        allowance=_duration_to_pb(expectation.allowance),
        holding_kinds=sorted(_KINDS_PB[kind] for kind in expectation.holding_kinds),
    )


def source_to_pb(source: Source) -> pb.Source:
    return pb.Source(
        source=source.source,
        expectation=None if source.expectation is None else expectation_to_pb(source.expectation),
        last_time=_optional_time(source.last_at),
        open_findings=source.open_findings,
    )


def _optional_time(at: datetime | None) -> Timestamp | None:
    return None if at is None else time_to_pb(at)


def _stored_time(text: str | None) -> Timestamp | None:
    return None if text is None else time_to_pb(datetime.fromisoformat(text).astimezone(UTC))


def _duration(message: Duration, field: str) -> timedelta:
    try:
        return timedelta(seconds=message.seconds, microseconds=-(-message.nanos // 1_000))
    except OverflowError as error:
        raise InvalidInput.of(field, "OUT_OF_RANGE", "is beyond all reason") from error


def _duration_to_pb(value: timedelta) -> Duration:
    return Duration(seconds=value.days * 86_400 + value.seconds)
