"""How a chunk is issued when the database refuses rows, and what rating answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import cast

import pytest

from services.billing.domain.charge import Charge, PeriodKey
from services.billing.usecases.close_periods import CLAIM, ClosePeriods, IssueChunk
from services.billing.usecases.ports import Confirmed, Queues, RowsRefused, UnitOfWork
from services.billing.usecases.store_ports import ClosingPeriod
from tests.unit.billing.fakes import FakeRating, MovingClock, a_charge, utc

NOW = utc(2026, 2, 1)
KEYS = [PeriodKey(f"sub-{number:02d}", utc(2026, 1, 1)) for number in range(8)]


class FakeWork:
    """A tenant's transaction that refuses some periods' charges, and in which nothing is closing any more."""

    def __init__(self, poisoned: Sequence[PeriodKey] = ()) -> None:
        self.poisoned = set(poisoned)
        self.transactions: list[list[PeriodKey]] = []
        self.set_aside_reasons: dict[PeriodKey, str] = {}
        self.retry_at: datetime | None = None
        self.periods = self
        self.charges = self

    @asynccontextmanager
    async def __call__(self, tenant_id: str) -> AsyncIterator[FakeWork]:
        yield self

    async def lock_closing(self, keys: Sequence[PeriodKey], claimed_until: datetime) -> list[ClosingPeriod]:
        self.transactions.append(list(keys))
        return []

    async def apply(self, charges: Sequence[Charge]) -> int:
        if self.poisoned & {charge.key for charge in charges}:
            raise RowsRefused("invalid byte sequence")
        return len(charges)

    async def of(self, keys: Sequence[PeriodKey]) -> dict[PeriodKey, list[Charge]]:
        return {}

    async def set_aside(self, reasons: Mapping[PeriodKey, str], try_at: datetime) -> None:
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

    def _close(self, work: FakeWork, rating: FakeRating) -> ClosePeriods:
        return ClosePeriods(
            unit_of_work=cast(UnitOfWork, work),
            queues=cast(Queues, FakeQueues()),
            rating=rating,
            clock=MovingClock(NOW),
        )
