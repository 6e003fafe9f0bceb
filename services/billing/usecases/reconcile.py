"""Check that invoices are what was charged, and charges what rating has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from decimal import Decimal

from libs.money import RoundingMode, exact, plain, round_to_minor
from libs.periods import Period
from services.billing.domain.charge import Charge, PeriodKey
from services.billing.domain.reconciliation import Check, Difference, Tally
from services.billing.usecases.ports import Rating, UnitOfWork
from services.billing.usecases.reconciliation_ports import FrozenLine, InvoiceSum, Numbers

_ASKED_AT_ONCE = 16
_PERIODS_AT_ONCE = 500


class Reconcile:
    """Every check that was made, also those that hold. Changes nothing; needs the same memory for any tenant.

    Charges that arrived after their period was invoiced are compared with rating's, not with the invoice: an issued
    invoice never changes.

    :raises Unavailable: if rating does not answer
    """

    def __init__(self, *, unit_of_work: UnitOfWork, rating: Rating) -> None:
        self._unit_of_work = unit_of_work
        self._rating = rating

    async def __call__(self, *, tenant_id: str, within: Period | None) -> list[Check]:
        with exact():
            async with self._unit_of_work(tenant_id) as work:
                checks = await _line_checks(work.reconciliation.frozen_lines(within))
                checks.append(await _total_check(work.reconciliation.invoice_sums(within)))
                checks.append(_number_check(await work.reconciliation.numbers()))
            return [*checks, await self._charge_check(tenant_id, within)]

    async def _charge_check(self, tenant_id: str, within: Period | None) -> Check:
        tally = Tally("charges = rating's charges")
        after: PeriodKey | None = None
        while True:
            async with self._unit_of_work(tenant_id) as work:
                ours = await work.reconciliation.charges(within, after, _PERIODS_AT_ONCE)
            if not ours:
                return tally.check()
            _compare(ours, await self._rating_charges(tenant_id, list(ours)), tally)
            after = next(reversed(ours))  # By the order of the database.

    async def _rating_charges(self, tenant_id: str, keys: Sequence[PeriodKey]) -> dict[PeriodKey, list[Charge]]:
        at_once = asyncio.Semaphore(_ASKED_AT_ONCE)

        async def ask(key: PeriodKey) -> list[Charge]:
            async with at_once:
                return await self._rating.charges(tenant_id, key) or []

        return dict(zip(keys, await asyncio.gather(*map(ask, keys)), strict=True))


async def _line_checks(lines: AsyncIterator[FrozenLine]) -> list[Check]:
    quantities = Tally("invoiced quantities = quantities of the frozen charges")
    amounts = Tally("exact amounts of lines = amounts of the frozen charges")
    rounded = Tally("amounts of lines = amounts of the frozen charges, rounded once")
    async for line in lines:
        quantities.add(line.subject, line.quantity, line.frozen_quantity)
        amounts.add(line.subject, line.exact_amount, line.frozen_amount)
        rounded.add(line.subject, _whole(line.amount_minor), _rounded(line))
    return [quantities.check(), amounts.check(), rounded.check()]


def _rounded(line: FrozenLine) -> Decimal | None:
    if line.frozen_amount is None or line.rounding_mode is None:
        return None
    money = round_to_minor(line.frozen_amount, line.currency, RoundingMode(line.rounding_mode))
    return Decimal(money.minor_units)


async def _total_check(sums: AsyncIterator[InvoiceSum]) -> Check:
    tally = Tally("invoice totals = sums of their lines")
    async for item in sums:
        tally.add(f"invoice {item.invoice_number}", Decimal(item.total_minor), Decimal(item.lines_minor))
    return tally.check()


def _number_check(numbers: Numbers) -> Check:
    missing = [Difference(f"invoice number {value}", "", str(value)) for value in numbers.missing]
    return Check.of("invoices with a number = numbers given", numbers.count, numbers.last_value, missing)


def _compare(ours: Mapping[PeriodKey, list[Charge]], theirs: Mapping[PeriodKey, list[Charge]], tally: Tally) -> None:
    left, right = _by_price(ours), _by_price(theirs)
    for key, price in sorted(left.keys() | right.keys()):
        here, there = left.get((key, price)), right.get((key, price))
        subject = f"subscription {key.subscription_id}, period {key.period_start.isoformat()}, price {price}"
        tally.count(_quantity(here), _quantity(there))
        if _described(here) != _described(there):
            tally.differ(Difference(subject, _described(here), _described(there)))


def _quantity(charge: Charge | None) -> Decimal:
    return charge.quantity if charge else Decimal(0)


def _by_price(charges: Mapping[PeriodKey, list[Charge]]) -> dict[tuple[PeriodKey, str], Charge]:
    return {(key, charge.price_id): charge for key, group in charges.items() for charge in group}


def _described(charge: Charge | None) -> str:
    if charge is None:
        return ""
    return f"{plain(charge.quantity)} for {plain(charge.amount)} {charge.currency} in version {charge.version}"


def _whole(value: int | None) -> Decimal | None:
    return None if value is None else Decimal(value)
