"""Instants and zones for the properties of periods.

They hold from 1980 on: until 1979 some zones had offsets that were not multiples of 15 minutes.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo, available_timezones

from hypothesis import strategies as st

from libs.periods import find_zone

EVERY_ZONE = tuple(find_zone(name) for name in sorted(available_timezones() - {"localtime", "Factory"}))

days = st.dates(date(1980, 1, 1), date(2060, 12, 31))
instants = st.datetimes(datetime(1980, 1, 2), datetime(2060, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
zones = st.sampled_from(EVERY_ZONE)

BERLIN = ZoneInfo("Europe/Berlin")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
