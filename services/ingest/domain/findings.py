"""What producers seem not to have delivered, and what is expected of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

DEFAULT_ALLOWANCE = timedelta(minutes=5)
MAX_EXPECTED = timedelta(days=35)
MAX_DIFFERENCES = 100
"""So many lines that differ are kept as evidence."""


class FindingKind(StrEnum):
    """What seems to be missing."""

    SEQUENCE_GAP = "sequence_gap"
    SEQUENCE_UNUSABLE = "sequence_unusable"
    SOURCE_SILENT = "source_silent"
    MANIFEST_DISAGREES = "manifest_disagrees"


class Resolution(StrEnum):
    """How a finding ended; NONE: it is open."""

    NONE = ""
    ITSELF = "itself"
    PERSON = "person"


class ManifestState(StrEnum):
    """How far a manifest has come."""

    PENDING = "pending"
    AGREED = "agreed"
    DISAGREED = "disagreed"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding as stored. `evidence` has the fields of its kind's evidence in `finding.proto`: texts, whole numbers,
    instants in ISO 8601, durations in whole seconds (`..._s`)."""

    finding_id: str
    kind: FindingKind
    source: str
    holds_invoices: bool
    evidence: Mapping[str, object]
    opened_at: datetime
    updated_at: datetime
    resolved_at: datetime | None
    resolution: Resolution
    reason: str
    actor: str


@dataclass(frozen=True, slots=True)
class SourceExpectation:
    """What is expected of a source, or, if it has no name, of all that have no expectation of their own."""

    source: str
    heartbeat: timedelta | None
    learns_cadence: bool
    allowance: timedelta
    holding_kinds: frozenset[FindingKind]


@dataclass(frozen=True, slots=True)
class Source:
    """What is known of a source; `last_at` is on the tenant's clock."""

    source: str
    expectation: SourceExpectation | None
    last_at: datetime | None
    open_findings: int


@dataclass(frozen=True, slots=True)
class ManifestLine:
    """What a source says that it sent for a meter, of one customer or (no name) of all; `total` may be left out."""

    meter_id: str
    customer_id: str
    event_count: int
    total: Decimal | None


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the log has for a line; `total` is zero where the line names none."""

    event_count: int
    total: Decimal


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as stored; the period is [start, end) by event time."""

    manifest_id: str
    source: str
    start: datetime
    end: datetime
    version: int
    lines: Sequence[ManifestLine]
    state: ManifestState
    submitted_at: datetime
    compared_at: datetime | None


def differences(lines: Sequence[ManifestLine], recorded: Sequence[Recorded]) -> list[tuple[ManifestLine, Recorded]]:
    """The lines that the log does not agree with, each with what the log has."""
    return [
        (line, found)
        for line, found in zip(lines, recorded, strict=True)
        if line.event_count != found.event_count or (line.total is not None and line.total != found.total)
    ]
