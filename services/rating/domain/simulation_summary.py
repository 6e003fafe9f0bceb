"""Who would pay more by another rate card, and who less."""

from __future__ import annotations

import bisect
import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import NamedTuple

from services.rating.domain.simulation import SimulatedPeriod

LARGEST = 10
_BOUNDS = (5, 10, 20, 50, 100)
"""In per cent, of a rise and of a fall."""
_PERCENT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_CENTS = Decimal("0.01")


class CustomerChange(NamedTuple):
    """What a customer pays for all billing periods that were compared, and would pay; minor units."""

    customer_id: str
    current: int
    simulated: int

    @property
    def change(self) -> int:
        return self.simulated - self.current

    @property
    def percent(self) -> Decimal | None:
        """The change in per cent of what is paid, rounded to 2 digits; None if nothing is paid."""
        if not self.current:
            return None
        share = _PERCENT.divide(Decimal(self.change * 100), Decimal(abs(self.current)))
        return share.quantize(_CENTS, context=_PERCENT)

    def exceeds(self, percent: Decimal) -> bool:
        """Whether the change, a rise or a fall, is above a share of what is paid; any is if nothing is paid."""
        return Decimal(abs(self.change) * 100) > percent * abs(self.current)


class Bucket(NamedTuple):
    """How many customers' change lies in a range of per cents: a rise is above `start` and up to `end`, a fall from
    `start` to below `end`; both are None if they pay nothing now and would pay something."""

    start: int | None
    end: int | None
    customers: int


class SimulationSummary:
    """Adds billing periods up, which come in the order of their customers: only one customer is open at a time."""

    def __init__(self) -> None:
        self.periods = 0
        self.problems: Counter[str] = Counter()
        self.winners = self.losers = self.unchanged = 0
        self.current = self.simulated = 0
        self._buckets: Counter[tuple[int | None, int | None]] = Counter()
        self._rises: list[tuple[int, str, CustomerChange]] = []
        self._falls: list[tuple[int, str, CustomerChange]] = []
        self._open: CustomerChange | None = None

    def add(self, period: SimulatedPeriod) -> CustomerChange | None:
        """Count a billing period; return the customer before, if it was that one's last."""
        if period.problem is not None:
            self.problems[period.problem.reason] += 1
            return None
        self.periods += 1
        customer_id = period.period.customer_id
        done = None
        if self._open is None or self._open.customer_id != customer_id:
            done, self._open = self.finish(), CustomerChange(customer_id, 0, 0)
        before = self._open
        self._open = CustomerChange(customer_id, before.current + period.current, before.simulated + period.simulated)
        return done

    def finish(self) -> CustomerChange | None:
        """Count the customer who is open, and return it; to be called after the last billing period."""
        customer, self._open = self._open, None
        if customer is None:
            return None
        self.current += customer.current
        self.simulated += customer.simulated
        self._buckets[_range_of(customer)] += 1
        if customer.change > 0:
            self.losers += 1
            keep_largest(self._rises, (customer.change, customer.customer_id, customer))
        elif customer.change < 0:
            self.winners += 1
            keep_largest(self._falls, (-customer.change, customer.customer_id, customer))
        else:
            self.unchanged += 1
        return customer

    @property
    def distribution(self) -> Sequence[Bucket]:
        """In rising order, those who pay nothing now last; ranges without customers are left out."""
        order = {edges: index for index, edges in enumerate(_RANGES)}
        return [Bucket(*edges, self._buckets[edges]) for edges in sorted(self._buckets, key=order.__getitem__)]

    @property
    def largest_increases(self) -> Sequence[CustomerChange]:
        return [customer for *_, customer in sorted(self._rises, reverse=True)]

    @property
    def largest_decreases(self) -> Sequence[CustomerChange]:
        return [customer for *_, customer in sorted(self._falls, reverse=True)]

    @property
    def problem_counts(self) -> Mapping[str, int]:
        return dict(self.problems)


_EDGES = (0, *_BOUNDS)
_RANGES: tuple[tuple[int | None, int | None], ...] = (
    (None, -_BOUNDS[-1]),
    *((-end, -start) for start, end in reversed(list(zip(_EDGES, _BOUNDS, strict=False)))),
    (0, 0),
    *zip(_EDGES, _BOUNDS, strict=False),
    (_BOUNDS[-1], None),
    (None, None),
)


def _range_of(customer: CustomerChange) -> tuple[int | None, int | None]:
    change, paid = abs(customer.change) * 100, abs(customer.current)
    if not change:
        return 0, 0
    if not paid:
        return None, None
    # The first bound that is not below the change.
    index = bisect.bisect_left([bound * paid for bound in _BOUNDS], change)
    start, end = _EDGES[index], _BOUNDS[index] if index < len(_BOUNDS) else None
    return (start, end) if customer.change > 0 else (None if end is None else -end, -start)


def keep_largest(largest: list[tuple[int, str, CustomerChange]], item: tuple[int, str, CustomerChange]) -> None:
    """Add to a heap that holds the largest ones only."""
    if len(largest) < LARGEST:
        heapq.heappush(largest, item)
    else:
        heapq.heappushpop(largest, item)
