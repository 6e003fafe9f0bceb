"""What meters made of one recorded event, and why others made nothing of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from libs.periods import WINDOW, Period, window_start
from services.ingest.domain.filters import matching_rows
from services.ingest.domain.meter import Meter
from services.ingest.domain.stored_event import StoredEvent

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Unmatched(StrEnum):
    """Why a meter of the event's type measured nothing in it."""

    FILTERED = "FILTERED"
    """A filter does not hold; `property` is what it looks at."""
    EXCLUDED = "EXCLUDED"
    """An exclusion holds."""
    ARCHIVED = "ARCHIVED"
    """The meter was archived when the event was received."""
    CREATED_LATER = "CREATED_LATER"
    """The meter did not exist when the event was received; a backfill would count it."""
    UNMEASURED = "UNMEASURED"
    """A backfill could not measure it, or has not been confirmed."""


class MatchedMeter(NamedTuple):
    """What a meter measured, and the usage window that it is in."""

    meter: Meter
    value: str
    window: Period
    dimensions: Mapping[str, str]


class UnmatchedMeter(NamedTuple):
    meter_id: str
    why: Unmatched
    property: str = ""


@dataclass(frozen=True, slots=True)
class EventTrace:
    """A recorded event and what became of it in every meter of its type, by meter id."""

    event: StoredEvent
    matched: Sequence[MatchedMeter]
    unmatched: Sequence[UnmatchedMeter]


def trace_event(event: StoredEvent, meters: Sequence[Meter]) -> EventTrace:
    """Tell of an event, given all meters of its tenant, archived ones too."""
    by_id = {meter.meter_id: meter for meter in meters}
    matched = [_matched(event, by_id[name], value) for name, value in sorted(event.measured.items()) if name in by_id]
    others = (meter for name, meter in sorted(by_id.items()) if name not in event.measured)
    unmatched = [_unmatched(event, meter) for meter in others if meter.event_type == event.event_type]
    return EventTrace(event, matched, unmatched)


def _matched(event: StoredEvent, meter: Meter, value: str) -> MatchedMeter:
    start = window_start(_EPOCH + timedelta(microseconds=event.time_ns // 1_000))
    dimensions = {name: event.properties[name] for name in meter.group_by if name in event.properties}
    return MatchedMeter(meter, value, Period(start, start + WINDOW), dimensions)


def _unmatched(event: StoredEvent, meter: Meter) -> UnmatchedMeter:
    failed = next(_failing(event, meter), None)
    if failed is not None:
        return UnmatchedMeter(meter.meter_id, Unmatched.FILTERED, failed)
    if not matching_rows((), meter.exclude, [event.properties], [0])[0]:
        return UnmatchedMeter(meter.meter_id, Unmatched.EXCLUDED)
    if meter.archived_at is not None and meter.archived_at <= event.received_at:
        return UnmatchedMeter(meter.meter_id, Unmatched.ARCHIVED)
    if meter.created_at is not None and meter.created_at > event.received_at:
        return UnmatchedMeter(meter.meter_id, Unmatched.CREATED_LATER)
    return UnmatchedMeter(meter.meter_id, Unmatched.UNMEASURED)


def _failing(event: StoredEvent, meter: Meter) -> Iterator[str]:
    """The properties of the filters that do not hold."""
    for item in meter.filters:
        if not matching_rows((item,), (), [event.properties], [0])[0]:
            yield item.property
