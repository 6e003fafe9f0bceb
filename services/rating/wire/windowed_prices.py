"""Prices of windows and of times of day on the wire."""

from __future__ import annotations

import re

from libs.money import plain
from services.rating.domain.prices import ONE, EmptyWindows, TimeBand, TimeOfDay, WindowPricing, WindowSize
from services.rating.wire.card_reading import Reading
from steelyard.rating.v1 import rate_card_pb2 as pb

_SIZES = {pb.WINDOW_SIZE_HOUR: WindowSize.HOUR, pb.WINDOW_SIZE_DAY: WindowSize.DAY}
_SIZES_TO_PB = {size: wire for wire, size in _SIZES.items()}
_EMPTIES = {
    pb.EMPTY_WINDOWS_UNSPECIFIED: EmptyWindows.SKIP,
    pb.EMPTY_WINDOWS_SKIP: EmptyWindows.SKIP,
    pb.EMPTY_WINDOWS_PRICE: EmptyWindows.PRICE,
}
_WEEKDAYS = {
    pb.WEEKDAY_MON: 0,
    pb.WEEKDAY_TUE: 1,
    pb.WEEKDAY_WED: 2,
    pb.WEEKDAY_THU: 3,
    pb.WEEKDAY_FRI: 4,
    pb.WEEKDAY_SAT: 5,
    pb.WEEKDAY_SUN: 6,
}
_WEEKDAYS_TO_PB = {day: wire for wire, day in _WEEKDAYS.items()}
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_NO_MINUTE = -1


def per_window_from_pb(message: pb.Price, path: str, reading: Reading) -> WindowPricing | None:
    """Return the windows of a price; None if it is that of the billing period."""
    if not message.HasField("per_window"):
        return None
    given, at = message.per_window, f"{path}.per_window"
    size = WindowSize.HOUR
    if given.size == pb.WINDOW_SIZE_UNSPECIFIED:
        reading.add(f"{at}.size", "REQUIRED", "must be hour or day")
    else:
        size = reading.choice(_SIZES, given.size, f"{at}.size", size)
    return WindowPricing(size, reading.choice(_EMPTIES, given.empty, f"{at}.empty", EmptyWindows.SKIP))


def per_window_to_pb(per_window: WindowPricing | None, message: pb.Price) -> None:
    """Set the windows of a price; defaults stay unset."""
    if per_window is not None:
        message.per_window.size = _SIZES_TO_PB[per_window.size]
        if per_window.empty is EmptyWindows.PRICE:
            message.per_window.empty = pb.EMPTY_WINDOWS_PRICE


def time_of_day_from_pb(message: pb.TimeOfDayPrice, path: str, reading: Reading) -> TimeOfDay:
    """Return the model."""
    return TimeOfDay(
        tuple(_band_from_pb(band, f"{path}.bands[{index}]", reading) for index, band in enumerate(message.bands)),
        reading.number(message.default_unit_amount, f"{path}.default_unit_amount"),
        reading.number(message.per, f"{path}.per", default=ONE),
        message.time_zone,
    )


def time_of_day_to_pb(model: TimeOfDay) -> pb.TimeOfDayPrice:
    """Return the model for the wire."""
    return pb.TimeOfDayPrice(
        time_zone=model.time_zone,
        bands=map(_band_to_pb, model.bands),
        default_unit_amount=plain(model.default_unit_amount),
        per="" if model.per == ONE else plain(model.per),
    )


def _band_from_pb(message: pb.TimeBand, path: str, reading: Reading) -> TimeBand:
    return TimeBand(
        message.label,
        _minute(message.from_time),
        _minute(message.to_time),
        reading.number(message.unit_amount, f"{path}.unit_amount"),
        tuple(reading.choice(_WEEKDAYS, day, f"{path}.days[{index}]", 0) for index, day in enumerate(message.days)),
    )


def _band_to_pb(band: TimeBand) -> pb.TimeBand:
    return pb.TimeBand(
        label=band.label,
        days=[_WEEKDAYS_TO_PB[day] for day in band.days],
        from_time=_time(band.start_minute),
        to_time=_time(band.end_minute),
        unit_amount=plain(band.unit_amount),
    )


def _minute(text: str) -> int:
    """The minute of the day; what is no time becomes one that no price allows."""
    found = _TIME.fullmatch(text)
    return int(found[1]) * 60 + int(found[2]) if found else _NO_MINUTE


def _time(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
