"""The queue of billing periods that have to be rated, as a pass over it sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from services.rating.domain.billing_period import PeriodKey


class Mark(NamedTuple):
    """A mark of a billing period to be rated, set at `marked_at` (real time).

    `urgent`: also if the period was set aside, because what kept it from being rated may be gone.
    """

    number: int
    key: PeriodKey
    marked_at: datetime
    urgent: bool


class SetAside(NamedTuple):
    """A billing period that could not be rated: how often it was tried, and from when on it is tried again."""

    attempts: int
    due_at: datetime


@dataclass(frozen=True, slots=True)
class RatingProblem:
    """Why a billing period could not be rated: `reason` for programs, `description` for people."""

    reason: str
    description: str


@dataclass(slots=True)
class DuePeriod:
    """A billing period to be rated, with all marks of it that a pass has found; none if it only was set aside."""

    key: PeriodKey
    due_at: datetime
    marks: list[int] = field(default_factory=list)
    urgent: bool = False


def due_periods(marks: Sequence[Mark], retries: Sequence[tuple[PeriodKey, datetime]]) -> list[DuePeriod]:
    """Each billing period once, the longest due first; `retries` are due ones of those that were set aside."""
    periods: dict[PeriodKey, DuePeriod] = {}
    for key, due_at in retries:
        periods[key] = DuePeriod(key, due_at)
    for number, key, marked_at, urgent in marks:
        period = periods.get(key)
        if period is None:
            period = periods[key] = DuePeriod(key, marked_at)
        period.marks.append(number)
        period.urgent |= urgent
    return list(periods.values())
