"""The checker counts only because it catches what is planted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, cast

from libs.periods import Period
from services.billing.domain.charge import Charge, PeriodKey
from services.billing.usecases.ports import UnitOfWork
from services.billing.usecases.reconcile import Reconcile
from services.billing.usecases.reconciliation_ports import FrozenLine, InvoiceSum, Numbers
from tests.unit.billing.fakes import FakeRating, a_charge, utc

KEY = PeriodKey("sub-01", utc(2026, 1, 1))
LINE = FrozenLine(
    subject="invoice INV-000001, price calls",
    currency="EUR",
    quantity=Decimal(10),
    exact_amount=Decimal("1.005"),
    amount_minor=100,
    version=3,
    frozen_quantity=Decimal("10.0"),
    frozen_amount=Decimal("1.005"),
    frozen_version=3,
    rounding_mode="half_even",
)


@dataclass
class FakeRows:
    lines: list[FrozenLine] = field(default_factory=lambda: [LINE])
    sums: list[InvoiceSum] = field(default_factory=lambda: [InvoiceSum("INV-000001", 100, 100)])
    given: Numbers = field(default_factory=lambda: Numbers(1, 1, ()))
    ours: list[Charge] = field(default_factory=lambda: [a_charge(KEY)])

    @property
    def reconciliation(self) -> FakeRows:
        return self

    async def frozen_lines(self, within: Period | None) -> AsyncIterator[FrozenLine]:
        for line in self.lines:
            yield line

    async def invoice_sums(self, within: Period | None) -> AsyncIterator[InvoiceSum]:
        for item in self.sums:
            yield item

    async def numbers(self) -> Numbers:
        return self.given

    async def charges(
        self, within: Period | None, after: PeriodKey | None, limit: int
    ) -> dict[PeriodKey, list[Charge]]:
        return {} if after else {KEY: self.ours}

    @asynccontextmanager
    async def __call__(self, tenant_id: str) -> AsyncIterator[FakeRows]:
        yield self


async def failed(rows: FakeRows, **rating_changes: Any) -> dict[str, tuple[str, str]]:
    """The checks that do not hold, with subject-free sides of their first difference."""
    rating = FakeRating()
    rating.change(a_charge(KEY), **rating_changes)
    checks = await Reconcile(unit_of_work=cast(UnitOfWork, rows), rating=rating)(tenant_id="acme", within=None)
    assert len(checks) == 6
    return {
        check.name: (check.differences[0].left, check.differences[0].right) if check.differences else ("", "")
        for check in checks
        if not check.ok
    }


class TestReconcile:
    async def test_holds_when_everything_agrees(self) -> None:
        assert await failed(FakeRows()) == {}

    async def test_finds_a_changed_quantity(self) -> None:
        rows = FakeRows(lines=[replace(LINE, quantity=Decimal(11))])
        assert await failed(rows) == {"invoiced quantities = quantities of the frozen charges": ("11", "10")}

    async def test_finds_a_line_that_was_rounded_another_way(self) -> None:
        rows = FakeRows(lines=[replace(LINE, amount_minor=101)])
        assert await failed(rows) == {"amounts of lines = amounts of the frozen charges, rounded once": ("101", "100")}

    async def test_finds_a_line_without_charge(self) -> None:
        alone = replace(LINE, frozen_quantity=None, frozen_amount=None, frozen_version=None, rounding_mode=None)
        assert len(await failed(FakeRows(lines=[alone]))) == 3

    async def test_finds_two_errors_that_cancel_out_in_the_sum(self) -> None:
        rows = FakeRows(lines=[replace(LINE, quantity=Decimal(9)), replace(LINE, quantity=Decimal(11))])
        assert list(await failed(rows)) == ["invoiced quantities = quantities of the frozen charges"]

    async def test_finds_a_total_that_is_not_the_sum(self) -> None:
        rows = FakeRows(sums=[InvoiceSum("INV-000001", 99, 100)])
        assert await failed(rows) == {"invoice totals = sums of their lines": ("99", "100")}

    async def test_finds_a_gap_in_the_numbers(self) -> None:
        rows = FakeRows(given=Numbers(3, 2, (2,)))
        assert await failed(rows) == {"invoices with a number = numbers given": ("", "2")}

    async def test_finds_a_charge_that_never_arrived(self) -> None:
        assert list(await failed(FakeRows(ours=[]))) == ["charges = rating's charges"]

    async def test_finds_an_old_version_of_a_charge(self) -> None:
        assert list(await failed(FakeRows(), version=2, amount=Decimal(1))) == ["charges = rating's charges"]
