"""What people type: instants, dates, key=value pairs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import typer
from google.protobuf.timestamp_pb2 import Timestamp


def parse_instant(text: str) -> datetime:
    """Parse RFC 3339, or a date, which means its midnight in UTC.

    :raises ValueError: if it is neither
    """
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def timestamp(text: str | None, option: str) -> Timestamp | None:
    """Parse an option's instant; None stays None.

    :raises typer.BadParameter: naming the option
    """
    if text is None:
        return None
    try:
        at = parse_instant(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option}: {error}") from error
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp


def pairs(items: Sequence[str], option: str) -> dict[str, str]:
    """Parse `key=value` options.

    :raises typer.BadParameter: naming the option
    """
    parsed: dict[str, str] = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise typer.BadParameter(f"{option}: {item!r} is not key=value")
        parsed[key] = value
    return parsed
