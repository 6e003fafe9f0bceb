"""What callers ask about missing usage, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from libs.errors import InvalidInput, Violation
from libs.ids import check_request_id, check_resource_id, check_text
from services.ingest.domain.door import MAX_TEXT
from services.ingest.domain.findings import MAX_EXPECTED, FindingKind, ManifestLine, SourceExpectation

MAX_LINES = 1_000
MAX_REASON = 500
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(2262, 4, 11, tzinfo=UTC)
"""Times of events are nanoseconds since 1970 in 64 bits."""


@dataclass(frozen=True, slots=True)
class MutationId:
    """By which a repeated request is known; `fingerprint` is a digest of the request without its id."""

    tenant_id: str
    request_id: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class FindingSelection:
    """Which findings of a tenant to list; no source means all, no kind all."""

    source: str
    kind: FindingKind | None
    include_resolved: bool


@dataclass(frozen=True, slots=True)
class ResolutionRequest:
    """A person's word on a finding."""

    finding_id: str
    reason: str
    actor: str

    def check(self, mutation: MutationId) -> None:
        """
        :raises InvalidInput: naming everything that is wrong
        """
        _raise(
            check_request_id(mutation.request_id),
            check_text(self.finding_id, "finding_id", MAX_TEXT),
            check_text(self.reason, "reason", MAX_REASON),
            check_text(self.actor, "actor", MAX_TEXT),
        )


@dataclass(frozen=True, slots=True)
class ManifestRequest:
    """What a source says that it has sent in [start, end)."""

    source: str
    start: datetime
    end: datetime
    lines: Sequence[ManifestLine]

    def check(self, mutation: MutationId, tenant_now: datetime) -> None:
        """
        :raises InvalidInput: naming everything that is wrong
        """
        _raise(
            check_request_id(mutation.request_id),
            check_text(self.source, "manifest.source", MAX_TEXT),
            *self._period_violations(tenant_now),
            *self._line_violations(),
        )

    def _period_violations(self, tenant_now: datetime) -> Iterable[Violation]:
        if self.end <= self.start:
            yield Violation("manifest.end_time", "NOT_AFTER_START", "must be after the start")
        elif self.end - self.start > MAX_EXPECTED:
            yield Violation("manifest.end_time", "TOO_LONG", f"must be at most {MAX_EXPECTED} after the start")
        if self.start < _EARLIEST:
            yield Violation("manifest.start_time", "OUT_OF_RANGE", f"must not be before {_EARLIEST:%Y}")
        if self.end > _LATEST:
            yield Violation("manifest.end_time", "OUT_OF_RANGE", f"must not be after {_LATEST:%Y-%m-%d}")
        if self.end > tenant_now:
            yield Violation("manifest.end_time", "NOT_OVER", "must not be ahead: what may still come cannot be counted")

    def _line_violations(self) -> Iterable[Violation]:
        if not 1 <= len(self.lines) <= MAX_LINES:
            yield Violation("manifest.lines", "WRONG_NUMBER", f"must be 1 to {MAX_LINES}")
        seen: set[tuple[str, str]] = set()
        for index, line in enumerate(self.lines):
            field = f"manifest.lines[{index}]"
            yield from filter(None, [check_resource_id(line.meter_id, f"{field}.meter_id")])
            if line.customer_id:
                yield from filter(None, [check_text(line.customer_id, f"{field}.customer_id", MAX_TEXT)])
            if line.event_count < 0:
                yield Violation(f"{field}.event_count", "NEGATIVE", "must not be negative")
            if (line.meter_id, line.customer_id) in seen:
                yield Violation(field, "TWICE", "is about the same as a line before it")
            seen.add((line.meter_id, line.customer_id))


def check_expectation(mutation: MutationId, expectation: SourceExpectation) -> None:
    """
    :raises InvalidInput: naming everything that is wrong
    """
    found = [check_request_id(mutation.request_id)]
    if expectation.source:
        found.append(check_text(expectation.source, "expectation.source", MAX_TEXT))
    if expectation.heartbeat is not None:
        found.append(_check_duration(expectation.heartbeat, "expectation.heartbeat", timedelta(seconds=1)))
    found.append(_check_duration(expectation.allowance, "expectation.allowance", timedelta(0)))
    _raise(*found)


def _check_duration(value: timedelta, field: str, least: timedelta) -> Violation | None:
    if least <= value <= MAX_EXPECTED and not value.microseconds:
        return None
    return Violation(field, "OUT_OF_RANGE", f"must be whole seconds, {least.seconds} s to {MAX_EXPECTED}")


def _raise(*violations: Violation | None) -> None:
    found = [violation for violation in violations if violation is not None]
    if found:
        raise InvalidInput(found)
