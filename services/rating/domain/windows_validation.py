"""What is wrong with prices of windows and of times of day, by the field names that clients use."""

from __future__ import annotations

from collections.abc import Iterator

from libs.errors import Violation
from libs.ids import check_text
from libs.periods import UnknownZone, find_zone
from services.rating.domain.number_checks import check_divisor, check_number
from services.rating.domain.prices import Flat, LinesBefore, Matrix, Percentage, TimeOfDay
from services.rating.domain.pricing.time_of_day import DAY_MINUTES, GRID_MINUTES
from services.rating.domain.proration import Proration
from services.rating.domain.rate_card import Price

MAX_BANDS = 100
_MAX_LABEL = 100
_REFUSED = {
    Flat: "a flat price has no usage that could be cut into windows",
    LinesBefore: "the lines before are those of the billing period",
    Matrix: "the quantities of windows are not known by dimensions",
    TimeOfDay: "a price by time of day is one of the billing period",
}


def check_time_of_day(model: TimeOfDay, path: str) -> Iterator[Violation | None]:
    """Everything wrong with the parameters of the model."""
    yield check_number(model.default_unit_amount, f"{path}.default_unit_amount")
    yield check_divisor(model.per, f"{path}.per")
    if model.time_zone:
        yield _check_zone(model.time_zone, f"{path}.time_zone")
    if not model.bands:
        yield Violation(f"{path}.bands", "REQUIRED", "must have a band; the rest has default_unit_amount")
    if len(model.bands) > MAX_BANDS:
        yield Violation(f"{path}.bands", "TOO_MANY", f"must have at most {MAX_BANDS} bands")
        return
    for index, band in enumerate(model.bands):
        at = f"{path}.bands[{index}]"
        yield check_text(band.label, f"{at}.label", _MAX_LABEL)
        yield check_number(band.unit_amount, f"{at}.unit_amount")
        yield _check_minute(band.start_minute, f"{at}.from_time")
        yield _check_minute(band.end_minute, f"{at}.to_time")
        if len(set(band.days)) < len(band.days):
            yield Violation(f"{at}.days", "NOT_UNIQUE", "names a day twice")


def check_per_window(price: Price, path: str) -> Iterator[Violation]:
    """Whether a price can be that of a window, if it is meant to be."""
    if price.per_window is None:
        return
    at = f"{path}.per_window"
    if reason := _REFUSED.get(type(price.model)):
        yield Violation(at, "NOT_ALLOWED", reason)
    if isinstance(price.model, Percentage) and price.model.fixed_per_event:
        yield Violation(at, "NOT_ALLOWED", "the number of events in a window is not known: see fixed_per_event")
    if price.terms.commitment is not None and price.terms.commitment.periods > 1:
        description = "the commitment of a window is not one over billing periods"
        yield Violation(f"{path}.commitment.periods", "NOT_ALLOWED", description)
    if price.proration is not Proration.NONE:
        yield Violation(f"{path}.proration", "NOT_ALLOWED", "nothing is agreed on for a whole billing period")


def _check_zone(name: str, field: str) -> Violation | None:
    try:
        find_zone(name, field)
    except UnknownZone as error:
        return error.violations[0]
    return None


def _check_minute(minute: int, field: str) -> Violation | None:
    if 0 <= minute < DAY_MINUTES and minute % GRID_MINUTES == 0:
        return None
    return Violation(field, "INVALID_TIME", "must be HH:MM from 00:00 to 23:45, a multiple of 15 minutes")
