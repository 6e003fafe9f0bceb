"""Refuse a card that would change what customers pay by too much."""

from __future__ import annotations

from libs.money import plain
from services.rating.domain.billing_period import PeriodScope
from services.rating.domain.rate_card import RateCard
from services.rating.domain.rollout_guard import RolloutGuard
from services.rating.domain.simulation_summary import CustomerChange, SimulationSummary, keep_largest
from services.rating.usecases.errors import RolloutGuardExceeded
from services.rating.usecases.simulate import Simulate


class GuardRollout:
    """Tries a new version on past usage before it is stored."""

    def __init__(self, simulate: Simulate) -> None:
        self._simulate = simulate

    async def __call__(self, tenant_id: str, card: RateCard, guard: RolloutGuard) -> None:
        """Return if the card may be stored.

        :raises RolloutGuardExceeded: naming those whose payments would change most; also if a billing period cannot be
            compared
        """
        if guard.override_reason:
            return
        summary, exceeding = SimulationSummary(), 0
        largest: list[tuple[int, str, CustomerChange]] = []

        def judge(customer: CustomerChange | None) -> None:
            nonlocal exceeding
            if customer is not None and customer.exceeds(guard.max_change_percent):
                exceeding += 1
                keep_largest(largest, (abs(customer.change), customer.customer_id, customer))

        async for compared in self._simulate.all(PeriodScope(tenant_id, guard.within, card.rate_card_id), card):
            judge(summary.add(compared))
        judge(summary.finish())
        problems = sum(summary.problem_counts.values())
        if exceeding or problems:
            raise RolloutGuardExceeded(
                f"{card.rate_card_id} would change what {exceeding} customers pay by more than"
                f" {plain(guard.max_change_percent)} %, and {problems} billing periods cannot be compared",
                rateCardId=card.rate_card_id,
                customerCount=str(exceeding),
                problemCount=str(problems),
                customers=",".join(customer_id for _, customer_id, _ in sorted(largest, reverse=True)),
            )
