"""Check that invoices are what was charged, and charges what rating has."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from libs.money import RoundingMode, exact, plain, round_to_minor
from libs.periods import Period
from services.billing.domain.charge import Charge, PeriodKey
from services.billing.domain.reconciliation import Check, Difference
from services.billing.usecases.ports import Rating, UnitOfWork
from services.billing.usecases.reconciliation_ports import FrozenLine, InvoiceSum, Numbers

_ASKED_AT_ONCE = 16


class Reconcile:
    """Every check that was made, also those that hold. Changes nothing.

    Charges that arrived after their period was invoiced are compared with rating's, not with the invoice: an issued
    invoice never changes.

    :raises Unavailable: if rating does not answer
    """

    def __init__(self, *, unit_of_work: UnitOfWork, rating: Rating) -> None:
        self._unit_of_work = unit_of_work
        self._rating = rating

    async def __call__(self, *, tenant_id: str, within: Period | None) -> list[Check]:
        async with self._unit_of_work(tenant_id) as work:
            lines = await work.reconciliation.frozen_lines(within)
            sums = await work.reconciliation.invoice_sums(within)
            numbers = await work.reconciliation.numbers()
            ours = await work.reconciliation.charges(within)
        theirs = await self._rating_charges(tenant_id, list(ours))
        with exact():
            return [*_line_checks(lines), _total_check(sums), _number_check(numbers), _charge_check(ours, theirs)]

    async def _rating_charges(self, tenant_id: str, keys: Sequence[PeriodKey]) -> dict[PeriodKey, list[Charge]]:
        at_once = asyncio.Semaphore(_ASKED_AT_ONCE)

        async def ask(key: PeriodKey) -> list[Charge]:
            async with at_once:
                return await self._rating.charges(tenant_id, key) or []

        return dict(zip(keys, await asyncio.gather(*map(ask, keys)), strict=True))


def _line_checks(lines: Sequence[FrozenLine]) -> Iterable[Check]:
    quantities = [(line.subject, line.quantity, line.frozen_quantity) for line in lines]
    yield _sum_check("invoiced quantities = quantities of the frozen charges", quantities)
    amounts = [(line.subject, line.exact_amount, line.frozen_amount) for line in lines]
    yield _sum_check("exact amounts of lines = amounts of the frozen charges", amounts)
    rounded = [(line.subject, _whole(line.amount_minor), _rounded(line)) for line in lines]
    yield _sum_check("amounts of lines = amounts of the frozen charges, rounded once", rounded)


def _rounded(line: FrozenLine) -> Decimal | None:
    if line.frozen_amount is None or line.rounding_mode is None:
        return None
    money = round_to_minor(line.frozen_amount, line.currency, RoundingMode(line.rounding_mode))
    return Decimal(money.minor_units)


def _total_check(sums: Sequence[InvoiceSum]) -> Check:
    pairs = [(f"invoice {item.invoice_number}", Decimal(item.total_minor), Decimal(item.lines_minor)) for item in sums]
    return _sum_check("invoice totals = sums of their lines", pairs)


def _number_check(numbers: Numbers) -> Check:
    missing = [Difference(f"invoice number {value}", "", str(value)) for value in numbers.missing]
    return Check.of("invoices with a number = numbers given", numbers.count, numbers.last_value, missing)


def _charge_check(ours: Mapping[PeriodKey, list[Charge]], theirs: Mapping[PeriodKey, list[Charge]]) -> Check:
    left, right = _by_price(ours), _by_price(theirs)
    differences = [
        Difference(f"subscription {key.subscription_id}, period {key.period_start.isoformat()}, price {price}", *sides)
        for key, price in sorted(left.keys() | right.keys())
        if (sides := (_described(left.get((key, price))), _described(right.get((key, price))))) and sides[0] != sides[1]
    ]
    return Check.of("charges = rating's charges", _quantity(left), _quantity(right), differences)


def _quantity(charges: Mapping[tuple[PeriodKey, str], Charge]) -> Decimal:
    return sum((charge.quantity for charge in charges.values()), Decimal(0))


def _by_price(charges: Mapping[PeriodKey, list[Charge]]) -> dict[tuple[PeriodKey, str], Charge]:
    return {(key, charge.price_id): charge for key, group in charges.items() for charge in group}


def _described(charge: Charge | None) -> str:
    if charge is None:
        return ""
    return f"{plain(charge.quantity)} for {plain(charge.amount)} {charge.currency} in version {charge.version}"


def _sum_check(name: str, pairs: Sequence[tuple[str, Decimal | None, Decimal | None]]) -> Check:
    differences = [Difference(subject, _text(left), _text(right)) for subject, left, right in pairs if left != right]
    left_sum = sum((left for _, left, _ in pairs if left is not None), Decimal(0))
    right_sum = sum((right for _, _, right in pairs if right is not None), Decimal(0))
    return Check.of(name, left_sum, right_sum, differences)


def _whole(value: int | None) -> Decimal | None:
    return None if value is None else Decimal(value)


def _text(value: Decimal | None) -> str:
    return "" if value is None else plain(value)
