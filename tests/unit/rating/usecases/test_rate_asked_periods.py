"""What waits for ingest's answer is bounded."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from libs.errors import Unavailable
from services.rating.domain.billing_period import PeriodKey
from services.rating.domain.exact_usage import Answers, Questions
from services.rating.domain.queue import DuePeriod
from services.rating.usecases.ask_quantities import AskQuantities
from services.rating.usecases.rate_asked_periods import RateAskedPeriods
from services.rating.usecases.rate_chunk import RateChunk

START = datetime(2026, 3, 1, tzinfo=UTC)


class NobodyAnswers(AskQuantities):
    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, questions: Questions) -> Answers:
        self.asked += [key.subscription_id for key in questions.wanted]
        return Answers(questions.number)


class FailsOnce(RateChunk):
    def __init__(self) -> None:
        self.rated: list[str] = []

    async def __call__(self, due: object, answers: Answers, now: datetime) -> bool:
        if not self.rated:
            self.rated.append("failed")
            raise Unavailable("the database is away")
        self.rated += [period.key.subscription_id for period in due]  # type: ignore[attr-defined]
        return True


def _take_over(rate_asked: RateAskedPeriods, name: str) -> PeriodKey:
    key = PeriodKey("acme", name, START)
    rate_asked.take_over([DuePeriod(key, START)], Questions(1, {key: []}), START)
    return key


async def test_what_is_too_much_is_left_to_a_later_pass() -> None:
    rate_asked = RateAskedPeriods(NobodyAnswers(), FailsOnce())

    keys = [_take_over(rate_asked, f"sub-{number}") for number in range(12)]

    assert [rate_asked.has(key) for key in keys] == [True] * 10 + [False] * 2
    assert rate_asked.wake.is_set()


async def test_a_failure_gives_its_periods_back_and_keeps_those_that_wait() -> None:
    asking, rating = NobodyAnswers(), FailsOnce()
    rate_asked = RateAskedPeriods(asking, rating)
    first, second = _take_over(rate_asked, "first"), _take_over(rate_asked, "second")

    with pytest.raises(Unavailable):
        await rate_asked()
    in_hand = [rate_asked.has(first), rate_asked.has(second)]
    worked = [await rate_asked(), await rate_asked()]

    assert (in_hand, worked) == ([False, True], [True, False])
    assert (asking.asked, rating.rated) == (["first", "second"], ["failed", "second"])
    assert not rate_asked.has(second)
