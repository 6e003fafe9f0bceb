"""When the SDK tries again: jitter, what the server asked for, and a budget."""

from __future__ import annotations

import random

import pytest

from steelyard.errors import InvalidRequest, NotAllowed, Overloaded, ServerError, SteelyardError, Unavailable
from steelyard.retry import RetryBudget, Retrying, pause_s, worth_retrying

AWAY = Unavailable("away")


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class TestPause:
    @pytest.mark.parametrize(("attempt", "ceiling"), [(1, 0.1), (2, 0.2), (5, 1.6), (7, 5.0), (1_000, 5.0)])
    def test_is_anything_up_to_a_doubling_ceiling(self, attempt: int, ceiling: float) -> None:
        pauses = [pause_s(attempt, 0.1, AWAY, random.Random(seed)) for seed in range(500)]

        assert 0 <= min(pauses) < 0.1 * ceiling
        assert 0.9 * ceiling < max(pauses) <= ceiling

    def test_is_never_shorter_than_the_server_asked_for_and_differs_between_clients(self) -> None:
        busy = Overloaded("busy", retry_after_s=2.0)
        pauses = [pause_s(3, 0.1, busy, random.Random(seed)) for seed in range(100)]

        assert min(pauses) >= 2.0
        assert len(set(pauses)) == 100

    @pytest.mark.parametrize(
        ("error", "worth"),
        [(AWAY, True), (Overloaded("busy"), True), (InvalidRequest("no"), False), (NotAllowed("no"), False),
         (ServerError("no"), False)],
        ids=lambda value: type(value).__name__,
    )  # fmt: skip
    def test_is_made_only_for_what_may_succeed_later(self, error: SteelyardError, worth: bool) -> None:
        assert worth_retrying(error) is worth


class TestBudget:
    def test_lets_a_burst_through_and_then_a_fifth_of_the_calls(self) -> None:
        budget = RetryBudget(0.0, burst=10, ratio=0.2, per_s=0.001)
        assert [budget.reserve(0.0) for _ in range(10)] == [0.0] * 10

        for _ in range(100):
            budget.first_try()
        at_once = 0
        while budget.reserve(0.0) == 0.0:
            at_once += 1

        assert at_once == 10  # A hundred calls earned twenty, of which the bucket holds ten.

    def test_an_outage_costs_a_fixed_rate_however_many_wait(self) -> None:
        budget = RetryBudget(0.0, burst=10, ratio=0.2, per_s=2.0)
        waits = [budget.reserve(0.0) for _ in range(110)]

        assert waits[9] == 0.0
        assert waits[10:14] == [0.5, 1.0, 1.5, 2.0]
        assert waits[-1] == 50.0

    def test_time_fills_it_again_but_not_beyond_the_burst(self) -> None:
        budget = RetryBudget(0.0, burst=10, ratio=0.2, per_s=2.0)
        for _ in range(30):
            budget.reserve(0.0)

        waits = [budget.reserve(1_000.0) for _ in range(11)]

        assert waits == [0.0] * 10 + [0.5]

    def test_what_is_given_back_can_be_used(self) -> None:
        budget = RetryBudget(0.0, burst=1, ratio=0.2, per_s=1.0)
        budget.reserve(0.0)
        assert budget.reserve(0.0) == 1.0
        budget.give_back()

        assert budget.reserve(0.0) == 1.0


class TestRetrying:
    def test_waits_for_the_budget_when_that_is_longer(self) -> None:
        retrying = Retrying(0.001, clock=FakeClock())
        pauses = [retrying.pause_s(1, AWAY) for _ in range(20)]

        assert all(pause is not None and pause <= 0.001 for pause in pauses[:10])
        assert pauses[10:] == [0.5 * number for number in range(1, 11)]

    def test_gives_up_what_would_come_too_late_and_leaves_its_token_to_others(self) -> None:
        clock = FakeClock()
        retrying = Retrying(0.001, clock=clock)
        for _ in range(10):
            retrying.pause_s(1, AWAY)

        assert [retrying.pause_s(1, AWAY, clock.now_s + 0.4) for _ in range(50)] == [None] * 50
        assert retrying.pause_s(1, AWAY) == 0.5
