"""How a chunk is issued when the database refuses rows, and what rating answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import cast

import pytest

from libs.clock import TenantClock
from libs.periods import Period
from services.billing.domain.charge import Charge, PeriodKey
from services.billing.domain.events import InvoiceFact, InvoiceIssued, InvoicePaid
from services.billing.domain.invoice import Invoice
from services.billing.domain.tenant import Tenant
from services.billing.usecases.close_periods import CLAIM, ClosePeriods, IssueChunk
from services.billing.usecases.ports import Confirmed, Queues, RowsRefused, UnitOfWork
from services.billing.usecases.store_ports import ClosingPeriod
from tests.unit.billing.fakes import FakeRating, MovingClock, a_charge, utc

NOW = utc(2026, 2, 1)
JANUARY = Period(utc(2026, 1, 1), NOW)
KEYS = [PeriodKey(f"sub-{number:02d}", utc(2026, 1, 1)) for number in range(8)]


class FakeWork:
    """A tenant's transactions: all that was issued, and the charges of some periods make the database refuse."""

    def __init__(self, poisoned: Sequence[PeriodKey] = ()) -> None:
        self.poisoned = set(poisoned)
        self.transactions: list[list[PeriodKey]] = []
        self.issued: dict[int, Invoice] = {}
        self.facts: list[InvoiceFact] = []
        self.set_aside_reasons: dict[PeriodKey, str] = {}
        self.retry_at: datetime | None = None
        self.periods = self.charges = self.tenants = self.invoices = self
        self._applied: dict[PeriodKey, list[Charge]] = {}

    @asynccontextmanager
    async def __call__(self, tenant_id: str) -> AsyncIterator[FakeWork]:
        yield self

    async def lock_closing(self, keys: Sequence[PeriodKey], claimed_until: datetime) -> list[ClosingPeriod]:
        return [
            ClosingPeriod(key, Invoice("inv", "cust-01", key.subscription_id, JANUARY, 1, "EUR"), "standard")
            for key in keys
        ]

    async def apply(self, charges: Sequence[Charge]) -> None:
        if self.poisoned & {charge.key for charge in charges}:
            raise RowsRefused("invalid byte sequence")
        self._applied |= {charge.key: [charge] for charge in charges}

    async def of(self, keys: Sequence[PeriodKey]) -> dict[PeriodKey, list[Charge]]:
        return {key: self._applied[key] for key in keys}

    async def get(self) -> Tenant:
        return Tenant("acme", "", 0, False, 1, 1, "INV", NOW)

    async def clock(self) -> TenantClock:
        return TenantClock("acme", None, 1)

    async def freeze(self, drafts: Sequence[Invoice]) -> None:
        assert all(draft.lines for draft in drafts)

    async def invoiced(self, keys: Sequence[PeriodKey]) -> None:
        self.transactions.append(list(keys))

    async def take_numbers(self, count: int) -> int:
        return len(self.issued) + 1

    async def issue(self, invoices: Mapping[int, Invoice]) -> None:
        assert not self.issued.keys() & invoices.keys()
        self.issued.update(invoices)

    async def announce(self, facts: Sequence[InvoiceFact]) -> None:
        self.facts += facts

    async def set_aside(self, reasons: Mapping[PeriodKey, str], claimed_until: datetime, try_at: datetime) -> None:
        assert claimed_until == NOW + CLAIM
        self.set_aside_reasons.update(reasons)
        self.retry_at = try_at


class FakeQueues:
    """One tenant with eight periods to close."""

    async def newly_due(self, now: datetime, limit: int) -> dict[str, list[PeriodKey]]:
        return {}

    async def claim_closing(self, now: datetime, until: datetime, limit: int) -> dict[str, list[PeriodKey]]:
        return {"acme": KEYS}


def confirmed(keys: Sequence[PeriodKey]) -> list[Confirmed]:
    return [Confirmed(key, (a_charge(key),)) for key in keys]


class TestIssueChunk:
    async def test_is_one_transaction(self) -> None:
        work = FakeWork()
        await self._issue(work)(confirmed(KEYS))
        assert work.transactions == [KEYS]
        assert [invoice.invoice_number for invoice in work.issued.values()] == [
            f"INV-{number:06d}" for number in range(1, 9)
        ]
        assert [type(fact) for fact in work.facts] == [InvoiceIssued] * 8

    async def test_sets_aside_what_contradicts_its_subscription(self) -> None:
        work = FakeWork()
        wrong = Confirmed(KEYS[0], (a_charge(KEYS[0], currency="USD"),))
        await self._issue(work)([wrong, *confirmed(KEYS[1:])])
        assert list(work.set_aside_reasons) == [KEYS[0]]
        assert len(work.issued) == 7

    async def test_tells_that_nothing_is_to_be_collected(self) -> None:
        work = FakeWork()
        await self._issue(work)([Confirmed(KEYS[0], (a_charge(KEYS[0], amount="0"),))])
        assert [type(fact) for fact in work.facts] == [InvoiceIssued, InvoicePaid]

    @pytest.mark.parametrize("bad", [0, 3, 7])
    async def test_is_halved_until_the_bad_item_stands_alone(self, bad: int) -> None:
        work = FakeWork([KEYS[bad]])
        await self._issue(work)(confirmed(KEYS))

        assert work.set_aside_reasons == {KEYS[bad]: "invalid byte sequence"}
        done = [keys for keys in work.transactions if KEYS[bad] not in keys]
        assert sorted(key for keys in done for key in keys) == [key for key in KEYS if key != KEYS[bad]]

    async def test_of_nothing_does_nothing(self) -> None:
        work = FakeWork()
        await self._issue(work)([])
        assert work.transactions == []

    def _issue(self, work: FakeWork) -> IssueChunk:
        return IssueChunk(cast(UnitOfWork, work), lambda: NOW, "acme", NOW + CLAIM)


class TestClosePeriods:
    async def test_issues_what_rating_confirms_and_sets_the_rest_aside(self) -> None:
        work, rating = FakeWork(), FakeRating()
        rating.refusals = {KEYS[2]: "RATE_CARD_UNKNOWN"}
        await self._close(work, rating)()
        assert work.set_aside_reasons == {KEYS[2]: "RATE_CARD_UNKNOWN"}
        assert work.transactions == [[key for key in KEYS if key != KEYS[2]]]

    async def test_tries_all_again_soon_when_rating_is_away(self) -> None:
        work, rating = FakeWork(), FakeRating()
        rating.is_away = True
        await self._close(work, rating)()
        assert work.set_aside_reasons.keys() == set(KEYS)
        assert work.transactions == []
        assert work.retry_at == NOW + timedelta(seconds=2)

    async def test_rests_while_rating_is_away(self) -> None:
        work, rating = FakeWork(), FakeRating()
        assert await self._close(work, rating)() == len(KEYS)
        rating.is_away = True
        assert await self._close(work, rating)() == 0

    async def test_keeps_a_reason_that_no_database_would_store(self) -> None:
        work, rating = FakeWork(), FakeRating()
        rating.refusals = {KEYS[0]: "charge \x00 is " + "very " * 1_000 + "odd"}
        await self._close(work, rating)()
        [reason] = work.set_aside_reasons.values()
        assert reason.startswith("charge \ufffd is very")
        assert len(reason) == 500

    async def test_asks_for_less_when_the_answer_is_too_large(self) -> None:
        work, rating = FakeWork(), FakeRating()
        rating.answers_max = 3
        await self._close(work, rating)()
        assert [len(keys) for keys in rating.asked] == [8, 4, 2, 2, 4, 2, 2]
        assert sorted(key for keys in work.transactions for key in keys) == KEYS

    def _close(self, work: FakeWork, rating: FakeRating) -> ClosePeriods:
        return ClosePeriods(
            unit_of_work=cast(UnitOfWork, work),
            queues=cast(Queues, FakeQueues()),
            rating=rating,
            clock=MovingClock(NOW),
        )
