"""Replays: windows compared with the log and put right, and meters counted for what was recorded before them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum

from libs.money import plain
from services.ingest.domain.aggregations import Operation
from services.ingest.domain.door import to_ns
from services.ingest.domain.measuring import MeterReading, measure
from services.ingest.domain.meter import Meter
from services.ingest.domain.usage_batch import UsageColumns

FIRST_INSTANT = datetime(1970, 1, 1, tzinfo=UTC)
LAST_INSTANT = datetime(2262, 1, 1, tzinfo=UTC)
"""Event times are nanoseconds in 64 bits."""


class ReplayMode(StrEnum):
    """REBUILD: windows become what the log has measured. BACKFILL: before that, meters measure recorded events that
    they have not measured yet."""

    REBUILD = "rebuild"
    BACKFILL = "backfill"


class ReplayState(StrEnum):
    BUILDING = "building"
    READY = "ready"
    SWAPPING = "swapping"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def has_ended(self) -> bool:
        return self in (ReplayState.DONE, ReplayState.CANCELLED, ReplayState.FAILED)


class ReplayPhase(StrEnum):
    """What the worker does next. ENDED: it forgets what was only needed meanwhile."""

    COUNTING = "counting"
    MEASURING = "measuring"
    COMPARING = "comparing"
    SWAPPING = "swapping"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class ReplayScope:
    """Which windows: of these meters and customers (none named: all), with event times in [start, end), both starts of
    windows; None is without bound."""

    meter_ids: Sequence[str] = ()
    customer_ids: Sequence[str] = ()
    start: datetime | None = None
    end: datetime | None = None

    @property
    def first_ns(self) -> int:
        return to_ns(self.start or FIRST_INSTANT)

    @property
    def end_ns(self) -> int:
        return to_ns(self.end or LAST_INSTANT)


@dataclass(frozen=True, slots=True)
class ReplayProgress:
    """`events_read` of `events_in_scope` (as counted at the start) in the present phase. `windows_built` from the log;
    `windows_differing` of them, or of those that the log has nothing for, are not what is live; `windows_swapped` of
    these are. In a backfill, meters measured `events_measured` and could not measure `events_unmeasured`: an event
    counts once per meter."""

    events_in_scope: int = 0
    events_read: int = 0
    events_measured: int = 0
    events_unmeasured: int = 0
    windows_built: int = 0
    windows_differing: int = 0
    windows_swapped: int = 0


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay of one tenant; `position` is how far its phase has come. Times are real time; `actor` and `confirmed_by`
    are ids of API keys."""

    replay_id: str
    mode: ReplayMode
    dry_run: bool
    scope: ReplayScope
    state: ReplayState
    phase: ReplayPhase
    position: Sequence[int | str]
    progress: ReplayProgress
    failure: str
    actor: str
    confirmed_by: str
    started_at: datetime
    updated_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class ReplayDifference:
    """Windows of a meter, customer and hour that are not what the log gives, merged as the meter's windows are."""

    meter_id: str
    customer_id: str
    hour: datetime
    windows: int
    live_value: Decimal
    live_events: int
    built_value: Decimal
    built_events: int


@dataclass(frozen=True, slots=True)
class LoggedEvents:
    """Recorded events as columns; `positions` are places in the log (batch id, ordinal)."""

    events: UsageColumns
    received_at: Sequence[datetime]
    positions: Sequence[tuple[int, int]]
    measured_by: Sequence[frozenset[str]]


@dataclass(frozen=True, slots=True)
class LaterReading:
    """What one meter measured in recorded events: `texts[i]`, as the log writes it, in the event with index `rows[i]`;
    `unmeasured` events have a problem."""

    meter: Meter
    rows: Sequence[int]
    texts: Sequence[str]
    unmeasured: int


def measure_later(logged: LoggedEvents, meters: Sequence[Meter]) -> list[LaterReading]:
    """Measure what each meter has not measured, and would have, had it existed then.

    Each meter by itself: at recording, an event that one of them cannot measure would have been refused as a whole, but
    it was not, and counts for the others.
    """
    found = []
    for meter in meters:
        end = meter.archived_at
        skip = {
            row
            for row, measured_by in enumerate(logged.measured_by)
            if meter.meter_id in measured_by or (end is not None and logged.received_at[row] >= end)
        }
        measurement = measure(logged.events, [meter], skip)
        (reading,) = measurement.readings or [MeterReading(meter, [], [])]
        found.append(LaterReading(meter, reading.rows, _texts(reading), len(measurement.problems)))
    return found


def dimensions_of(meter: Meter, properties: Mapping[str, str]) -> dict[str, str]:
    """The properties that split the meter's quantity."""
    return {name: properties[name] for name in meter.group_by if name in properties}


def _texts(reading: MeterReading) -> list[str]:
    """As `RecordingBatch.measured_texts` writes them."""
    if reading.texts:
        signs = ["+" if operation is Operation.ADD else "-" for operation in reading.operations]
        return [sign + text for sign, text in zip(signs, reading.texts, strict=True)]
    return [plain(value) for value in reading.values]
