"""Entries of the queue of billing periods that have to be rated."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.rating.domain.billing_period import PeriodKey


@dataclass(frozen=True, slots=True)
class DuePeriod:
    """A billing period taken from the queue for a while, and what stood there: `attempts` are failed ones.

    `due_at` is real time.
    """

    key: PeriodKey
    last_mark: int
    attempts: int
    due_at: datetime


@dataclass(frozen=True, slots=True)
class RatingProblem:
    """Why a billing period could not be rated: `reason` for programs, `description` for people."""

    reason: str
    description: str
