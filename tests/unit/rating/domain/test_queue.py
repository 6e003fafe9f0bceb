"""What a pass over the queue finds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from services.rating.domain.billing_period import PeriodKey
from services.rating.domain.queue import DuePeriod, Mark, due_periods

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ONE, OTHER = PeriodKey("acme", "one", NOW), PeriodKey("acme", "other", NOW)


def _mark(number: int, key: PeriodKey, *, urgent: bool = False) -> Mark:
    return Mark(number, key, NOW + timedelta(seconds=number), urgent)


def test_a_period_comes_once_with_all_its_marks() -> None:
    due = due_periods([_mark(1, ONE), _mark(2, OTHER), _mark(5, ONE)], [])

    assert due == [
        DuePeriod(ONE, NOW + timedelta(seconds=1), [1, 5]),
        DuePeriod(OTHER, NOW + timedelta(seconds=2), [2]),
    ]


def test_one_urgent_mark_makes_its_period_urgent() -> None:
    [period] = due_periods([_mark(1, ONE), _mark(2, ONE, urgent=True), _mark(3, ONE)], [])

    assert period.urgent


def test_a_period_that_was_set_aside_keeps_its_time_and_gets_its_marks() -> None:
    due = due_periods([_mark(7, ONE)], [(ONE, NOW), (OTHER, NOW)])

    assert due == [DuePeriod(ONE, NOW, [7]), DuePeriod(OTHER, NOW)]
