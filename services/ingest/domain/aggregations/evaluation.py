"""The quantity of a meter, exactly, from its effective events."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from libs.money import QUANTITY_CONTEXT, Exact, round_exact, to_quotient_scale
from services.ingest.domain.aggregations.buckets import over_buckets
from services.ingest.domain.aggregations.columns import NO_EVENTS, EventColumns, joined
from services.ingest.domain.aggregations.percentiles import percentile
from services.ingest.domain.aggregations.period import AggregationPeriod
from services.ingest.domain.aggregations.prorated import prorated_sum, prorated_unique_count
from services.ingest.domain.aggregations.state_columns import state_columns
from services.ingest.domain.aggregations.states import WindowState, merge_all, state_value
from services.ingest.domain.aggregations.unique import unique_count
from services.ingest.domain.aggregations.weighted import weighted_sum
from services.ingest.domain.meter import Meter
from services.ingest.domain.meter_options import WINDOWED, Aggregation, EmptyResult

_ZERO = Decimal(0)


def evaluate(
    meter: Meter,
    events: EventColumns,
    period: AggregationPeriod,
    *,
    carried: EventColumns = NO_EVENTS,
    initial_value: Decimal = _ZERO,
) -> Decimal | None:
    """The quantity of one customer and group in a period, from what the meter measured in its effective events.

    `events` lie in the period, `carried` before it; those count only if the meter carries over. `initial_value` is a
    level from before the period, of weighted sums. The order of events does not matter.

    None only if the meter says so, of nothing.

    :raises ValueError: if an event does not lie where it should, or lacks what the meter measures
    :raises decimal.DecimalException: if a result leaves the range of quantities
    """
    _check_times(events, carried, period)
    for part in (events, carried):
        _check_columns(meter, part)
    known = carried if meter.carry_over else NO_EVENTS
    return finish(meter, _exact(meter, events, known, period, initial_value))


def evaluate_states(meter: Meter, states: Iterable[WindowState]) -> Decimal | None:
    """The quantity of the time that the states are of; the same as `evaluate` of their events.

    :raises ValueError: if the meter is not mergeable
    """
    if not meter.mergeable:
        raise ValueError(f"the windows of meter {meter.meter_id} do not give its quantity")
    return finish(meter, state_value(meter.aggregation, merge_all(meter.aggregation, states)))


def finish(meter: Meter, exact: Exact | None) -> Decimal | None:
    """Round the exact quantity of a period as the meter says, once, and multiply. A quotient that the meter does not
    round is rounded half to even to 12 decimals. None is nothing."""
    if exact is None:
        return None if meter.empty is EmptyResult.NULL else _ZERO
    if meter.negative_as_zero and exact < 0:
        exact = _ZERO
    if meter.rounding is None:
        rounded = to_quotient_scale(exact)
    else:
        rounded = round_exact(exact, meter.rounding.function, meter.rounding.digits)
    return QUANTITY_CONTEXT.multiply(rounded, meter.multiplier)


def _exact(
    meter: Meter, events: EventColumns, carried: EventColumns, period: AggregationPeriod, initial_value: Decimal
) -> Exact | None:
    if meter.buckets is not None:
        return over_buckets(meter.aggregation, meter.buckets, events, period, meter.percentile)
    match meter.aggregation:
        case Aggregation.WEIGHTED_SUM:
            return weighted_sum(events, carried, period, initial_value=initial_value, unit=meter.level_unit)
        case Aggregation.UNIQUE_COUNT if meter.prorated:
            return prorated_unique_count(events, carried, period)
        case Aggregation.SUM if meter.prorated:
            return prorated_sum(events, carried, period)
        case Aggregation.UNIQUE_COUNT:
            return Decimal(unique_count(joined(carried, events)))
        case Aggregation.PERCENTILE if meter.percentile is not None:
            return percentile(events.values, meter.percentile)
        case aggregation if aggregation in WINDOWED:
            return state_value(aggregation, whole_state(aggregation, joined(carried, events)))
        case other:
            raise ValueError(f"meter {meter.meter_id} cannot be evaluated: {other}")


def whole_state(aggregation: Aggregation, events: EventColumns) -> WindowState:
    """The state of all the events together."""
    columns = state_columns(aggregation)
    columns.make_room(1)
    columns.add([0] * len(events), events.values, events.moments() if columns.needs_moments else ())
    return columns.state(0)


def _check_times(events: EventColumns, carried: EventColumns, period: AggregationPeriod) -> None:
    if len(events) and not (period.start_ns <= min(events.times_ns) and max(events.times_ns) < period.end_ns):
        raise ValueError("an event does not lie in the period")
    if len(carried) and max(carried.times_ns) >= period.start_ns:
        raise ValueError("an event that is carried over does not lie before the period")


def _check_columns(meter: Meter, events: EventColumns) -> None:
    if meter.event_aggregation is Aggregation.COUNT:
        return
    needed = events.texts if meter.event_aggregation is Aggregation.UNIQUE_COUNT else events.values
    if len(needed) != len(events):
        raise ValueError(f"meter {meter.meter_id} measures more than these columns have")
