"""What people type: instants, dates, key=value pairs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from libs.periods import UnknownZone, find_zone, local_midnight

MAX_INT32 = 2**31 - 1
"""The largest number of most protobuf fields; options that fill one are not larger."""
_UTC = ZoneInfo("UTC")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INSTANT = re.compile(_DATE.pattern + r"[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}:[0-9]{2})")


def parse_instant(text: str) -> datetime:
    """Parse an instant of RFC 3339; digits after the microseconds are cut off.

    One without a zone is refused: whose midnight a use falls on decides which invoice it is on.

    :raises ValueError: if it is none
    """
    if not _INSTANT.fullmatch(text.upper()):
        raise ValueError(f"{text!r} is not an instant with its zone, such as 2026-01-31T23:59:59Z")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r}: {error}") from error


def parse_date_or_instant(text: str, zone: ZoneInfo) -> datetime:
    """Parse an instant, or a date, which means the day's first instant in the zone.

    :raises ValueError: if it is neither
    """
    if not _DATE.fullmatch(text):
        return parse_instant(text)
    try:
        return local_midnight(date.fromisoformat(text), zone)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r}: {error}") from error


def zone_named(name: str, option: str) -> ZoneInfo:
    """Return an option's time zone; no name means UTC.

    :raises typer.BadParameter: naming the option
    """
    try:
        return find_zone(name or "UTC", option)
    except UnknownZone as error:
        raise typer.BadParameter(str(error)) from error


def timestamp(text: str | None, option: str, zone: ZoneInfo = _UTC) -> Timestamp | None:
    """Parse an option's date or instant; None stays None.

    :raises typer.BadParameter: naming the option
    """
    if text is None:
        return None
    try:
        at = parse_date_or_instant(text, zone)
    except ValueError as error:
        raise typer.BadParameter(f"{option}: {error}") from error
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp


def pairs(items: Sequence[str], option: str) -> dict[str, str]:
    """Parse `key=value` options.

    :raises typer.BadParameter: naming the option, also if a key comes twice
    """
    parsed: dict[str, str] = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise typer.BadParameter(f"{option}: {item!r} is not key=value")
        if key in parsed:
            raise typer.BadParameter(f"{option}: {key!r} is given twice")
        parsed[key] = value
    return parsed
