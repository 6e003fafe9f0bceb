"""Local days in IANA time zones."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from libs.errors import InvalidInput, Violation

# The machine's own setting and the placeholder of an unset machine: not places.
_NOT_ZONES = frozenset({"localtime", "Factory"})


class UnknownZone(InvalidInput):
    """The name is not in the IANA time zone database."""

    reason = "UNKNOWN_TIME_ZONE"


def find_zone(name: str, field: str = "time_zone") -> ZoneInfo:
    """The time zone of an IANA name such as `Europe/Berlin`; names are case-sensitive.

    :raises UnknownZone: naming `field`, if there is no such zone
    """
    if name not in _zone_names():
        raise UnknownZone([Violation(field, UnknownZone.reason, f"{name!r} is not an IANA time zone")])
    return ZoneInfo(name)


def local_midnight(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of a local day, in UTC.

    Where clocks skip midnight that is the instant of the change; where midnight comes twice, the first one. A day
    that a zone left out altogether (it crossed the date line) begins where the next one does.
    """
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    first = midnight.astimezone(UTC)
    if first.astimezone(zone).replace(tzinfo=None) == midnight.replace(tzinfo=None):
        return first
    # Midnight was skipped: fold 0 reads it with the offset before the gap, fold 1 with the one after it, and the
    # change lies between the two instants (PEP 495).
    before, after = midnight.replace(fold=1).astimezone(UTC), first
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
        if middle.astimezone(zone).date() < day:
            before = middle
        else:
            after = middle
    return after


@cache
def _zone_names() -> frozenset[str]:
    # Membership also keeps names that are paths or directories ("../x", "Europe") away from the file system.
    return frozenset(available_timezones() - _NOT_ZONES)
