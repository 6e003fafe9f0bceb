"""Refuse a card that would change what customers pay by too much."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from libs.money import plain
from services.rating.domain.billing_period import PeriodScope
from services.rating.domain.rate_card import RateCard
from services.rating.domain.rollout_guard import RolloutGuard
from services.rating.domain.simulation import SimulatedPeriod
from services.rating.domain.simulation_summary import CustomerChange, SimulationSummary, keep_largest
from services.rating.usecases.errors import RolloutGuardExceeded
from services.rating.usecases.simulate import Simulate


class _Judge:
    """Finds those customers who pay in one currency and whose payments would change by too much."""

    def __init__(self, max_change_percent: Decimal) -> None:
        self._max_change_percent = max_change_percent
        self._summary = SimulationSummary()
        self._largest: list[tuple[int, str, CustomerChange]] = []
        self.exceeding = 0

    @property
    def problems(self) -> int:
        return sum(self._summary.problem_counts.values())

    @property
    def largest(self) -> Sequence[str]:
        return [customer_id for _, customer_id, _ in sorted(self._largest, reverse=True)]

    def add(self, compared: SimulatedPeriod) -> None:
        self._count(self._summary.add(compared))

    def finish(self) -> None:
        self._count(self._summary.finish())

    def _count(self, customer: CustomerChange | None) -> None:
        if customer is not None and customer.exceeds(self._max_change_percent):
            self.exceeding += 1
            keep_largest(self._largest, (abs(customer.change), customer.customer_id, customer))


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
        judges: dict[str, _Judge] = {}
        async for compared in self._simulate.all(PeriodScope(tenant_id, guard.within, card.rate_card_id), card):
            judges.setdefault(compared.currency, _Judge(guard.max_change_percent)).add(compared)
        for judge in judges.values():
            judge.finish()
        exceeding = sum(judge.exceeding for judge in judges.values())
        problems = sum(judge.problems for judge in judges.values())
        if exceeding or problems:
            # Amounts in different currencies have no order.
            customers = dict.fromkeys(name for _, judge in sorted(judges.items()) for name in judge.largest)
            raise RolloutGuardExceeded(
                f"{card.rate_card_id} would change what {exceeding} customers pay by more than"
                f" {plain(guard.max_change_percent)} %, and {problems} billing periods cannot be compared",
                rateCardId=card.rate_card_id,
                customerCount=str(exceeding),
                problemCount=str(problems),
                customers=",".join(customers),
            )
