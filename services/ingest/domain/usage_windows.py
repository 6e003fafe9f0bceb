"""States per 15-minute window, meter, customer and group."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import compress

import orjson

from libs.periods import WINDOW
from services.ingest.domain.aggregations import StateColumns, WindowState, state_columns
from services.ingest.domain.measuring import MeterReading
from services.ingest.domain.meter import Meter
from services.ingest.domain.meter_options import Aggregation
from services.ingest.domain.usage_batch import NANOSECONDS, UsageColumns

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WINDOW_NS = WINDOW // timedelta(seconds=1) * NANOSECONDS

_Place = tuple[str, int, tuple[str | None, ...]]
# Customer, number of the window since 1970, value (None if missing) per dimension of the meter.


@dataclass(frozen=True, slots=True)
class WindowChange:
    """What newly recorded events add to one window: the state that the meter's `window_aggregation` has of them.

    `key` (16 bytes) identifies the window within its tenant, `dimensions` is canonical JSON. `trace_parent` is the
    W3C context of the last sampled batch in it, or empty.
    """

    key: bytes
    meter_id: str
    customer_id: str
    start: datetime
    dimensions: str
    value: Decimal
    event_count: int
    trace_parent: str
    aggregation: Aggregation = Aggregation.SUM
    latest_ns: int = 0
    latest_position: int = 0

    @property
    def state(self) -> WindowState:
        """To be merged into what the window holds already."""
        return WindowState(self.event_count, self.value, self.latest_ns, self.latest_position)


@dataclass(slots=True)
class _MeterStates:
    """States and last trace per place, by the index that the places of the meter's dimensions give it."""

    group_by: tuple[str, ...]
    aggregation: Aggregation
    states: StateColumns
    traces: dict[int, str] = field(default_factory=dict)


class WindowSums:
    """Puts together what the recorded events of one tenant's batches measured, as each meter's windows have it.

    Meters with the same dimensions share the look-up of an event's place; what is left per event and meter is an
    addition in a list.
    """

    def __init__(self) -> None:
        self._places: dict[tuple[str, ...], dict[_Place, int]] = {}
        self._meters: dict[str, _MeterStates] = {}

    def add(
        self,
        events: UsageColumns,
        readings: Sequence[MeterReading],
        recorded: Collection[int],
        trace_parent: str,
        positions: Sequence[int] = (),
    ) -> None:
        """Add the readings of those events whose index is in `recorded`.

        `positions` of the events in the order of recording are needed if a meter asks for the latest value.

        :raises decimal.DecimalException: if a sum leaves the range of quantities
        :raises ValueError: if positions are needed and not there
        """
        found: dict[tuple[str, ...], list[int]] = {}
        for reading in readings:
            group_by = tuple(reading.meter.group_by)
            if group_by not in found:
                found[group_by] = self._place(events, group_by)
            meter = self._states_of(reading.meter)
            meter.states.make_room(len(self._places[group_by]))
            rows, values = reading.rows, reading.values
            if len(recorded) < len(events):
                chosen = [row in recorded for row in rows]
                rows, values = list(compress(rows, chosen)), list(compress(values, chosen))
            indexes = [found[group_by][row] for row in rows]
            if meter.states.needs_moments:
                if len(positions) != len(events):
                    raise ValueError("the latest value needs the position of each event")
                meter.states.add(indexes, values, [(events.times_ns[row], positions[row]) for row in rows])
            else:
                meter.states.add(indexes, values)
            if trace_parent:
                meter.traces |= dict.fromkeys(indexes, trace_parent)

    def changes(self) -> list[WindowChange]:
        """Return the sums, ordered by the key of their window."""
        changes = [
            _change(meter_id, meter, place, index)
            for meter_id, meter in self._meters.items()
            for place, index in self._places[meter.group_by].items()
            if index < len(meter.states.counts) and meter.states.counts[index]
        ]
        return sorted(changes, key=lambda change: change.key)

    def _states_of(self, meter: Meter) -> _MeterStates:
        found = self._meters.get(meter.meter_id)
        if found is None:
            found = _MeterStates(
                tuple(meter.group_by), meter.window_aggregation, state_columns(meter.window_aggregation)
            )
            self._meters[meter.meter_id] = found
        return found

    def _place(self, events: UsageColumns, group_by: tuple[str, ...]) -> list[int]:
        """Return the index of each event's place."""
        places = self._places.setdefault(group_by, {})
        numbers = [time_ns // _WINDOW_NS for time_ns in events.times_ns]
        if group_by:
            groups = [tuple(map(properties.get, group_by)) for properties in events.properties]
        else:
            groups = [()] * len(events)
        return [
            places.setdefault(place, len(places)) for place in zip(events.customer_ids, numbers, groups, strict=True)
        ]


def _change(meter_id: str, meter: _MeterStates, place: _Place, index: int) -> WindowChange:
    customer_id, number, values = place
    state = meter.states.state(index)
    dimensions = canonical_dimensions(zip(meter.group_by, values, strict=True)) if values else "{}"
    return WindowChange(
        key=window_key(meter_id, customer_id, number, dimensions),
        meter_id=meter_id,
        customer_id=customer_id,
        start=_EPOCH + number * WINDOW,
        dimensions=dimensions,
        value=state.value,
        event_count=state.event_count,
        trace_parent=meter.traces.get(index, ""),
        aggregation=meter.aggregation,
        latest_ns=state.latest_ns,
        latest_position=state.latest_position,
    )


def canonical_dimensions(values: Iterable[tuple[str, str | None]]) -> str:
    """The dimensions that the events have as JSON: keys sorted, no blanks; equal groups give equal text."""
    present = {name: value for name, value in values if value is not None}
    return orjson.dumps(present, option=orjson.OPT_SORT_KEYS).decode() if present else "{}"


@lru_cache(maxsize=1 << 15)
def window_key(meter_id: str, customer_id: str, number: int, dimensions: str) -> bytes:
    """BLAKE2b-128, because eight long dimensions would not fit into a row of an index. Stored: never changes."""
    content = orjson.dumps((meter_id, customer_id, number, dimensions))
    return hashlib.blake2b(content, digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class UsageWindow:
    """The stored state of a window; `version` grows with every change."""

    key: bytes
    meter_id: str
    customer_id: str
    start: datetime
    dimensions: Mapping[str, str]
    value: Decimal
    event_count: int
    version: int
    trace_parent: str
