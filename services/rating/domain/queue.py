"""Entries of the queue of billing periods that have to be rated."""

from __future__ import annotations

from dataclasses import dataclass

from services.rating.domain.billing_period import PeriodKey


@dataclass(frozen=True, slots=True)
class DuePeriod:
    """A billing period taken from the queue for a while; `last_mark` and `attempts` (failed ones) as it was taken."""

    key: PeriodKey
    last_mark: int
    attempts: int


@dataclass(frozen=True, slots=True)
class RatingProblem:
    """Why a billing period could not be rated: `reason` for programs, `description` for people."""

    reason: str
    description: str
