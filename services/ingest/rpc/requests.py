"""Fields of requests that several services read."""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from libs.errors import InvalidInput, Violation
from libs.periods import Period
from services.ingest.wire.times import time_from_pb

Context: TypeAlias = grpc.aio.ServicerContext[Message, Message]


def required_time(message: Timestamp, is_set: bool, field: str) -> datetime:
    """
    :raises InvalidInput: if it is not set, or no instant
    """
    found = optional_time(message, is_set, field)
    if found is None:
        raise InvalidInput.of(field, "REQUIRED", "must be set")
    return found


def optional_time(message: Timestamp, is_set: bool, field: str) -> datetime | None:
    """
    :raises InvalidInput: if it is no instant of the years 1 to 9999
    """
    if not is_set:
        return None
    try:
        return time_from_pb(message)
    except (ValueError, OverflowError) as error:
        raise InvalidInput.of(field, "INVALID_TIME", "must be in the years 1 to 9999") from error


def check_storable(**texts: str) -> None:
    """Check texts, by field, that are looked up: PostgreSQL refuses to compare anything with U+0000.

    :raises InvalidInput: naming those that hold it
    """
    found = [
        Violation(field, "CONTROL_CHARACTER", "must not contain U+0000")
        for field, text in texts.items()
        if "\x00" in text
    ]
    if found:
        raise InvalidInput(found)


def period_between(start: datetime, end: datetime, end_field: str) -> Period:
    """
    :raises InvalidInput: if it holds no instant
    """
    if start >= end:
        raise InvalidInput.of(end_field, "NOT_AFTER_START", "must be after the start")
    return Period(start, end)


def cursor_instant(text: str) -> datetime:
    """An instant of a page token.

    :raises InvalidInput: PAGE_TOKEN_INVALID
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise cursor_invalid() from error
    if at.tzinfo is None:
        raise cursor_invalid()
    return at


def cursor_invalid() -> InvalidInput:
    """The token has the form of one of ours, but not the content."""
    description = "is not a token of this list with these arguments"
    return InvalidInput([Violation("page_token", "PAGE_TOKEN_INVALID", description)], reason="PAGE_TOKEN_INVALID")
