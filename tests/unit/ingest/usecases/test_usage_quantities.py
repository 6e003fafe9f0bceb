"""How many scopes are read at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from libs.periods import Period
from services.ingest.domain.aggregations import NO_EVENTS, EventColumns
from services.ingest.domain.meter import Meter
from services.ingest.domain.meter_options import Aggregation, BucketLength, Buckets
from services.ingest.usecases.usage_parts import UsagePart
from services.ingest.usecases.usage_quantities import MAX_AT_ONCE, GetUsageQuantities, QuantityScope, ScopeWindows

MARCH = Period(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))


class FakeStore:
    """Windows with so many events in each scope and before it; remembers of how many scopes it was asked at once."""

    def __init__(self, meter: Meter, counts: Sequence[tuple[int, int]]) -> None:
        self._meter, self._counts = meter, counts
        self.asked: list[int] = []

    async def meters(self, tenant_id: str, meter_ids: Sequence[str]) -> Mapping[str, Meter]:
        return {self._meter.meter_id: self._meter}

    async def windows(
        self, tenant_id: str, meter: Meter, scopes: Sequence[QuantityScope], *, carried: bool
    ) -> list[ScopeWindows]:
        return [ScopeWindows(number, *counts) for number, counts in enumerate(self._counts)]

    async def parts(
        self, tenant_id: str, meter: Meter, scopes: Sequence[QuantityScope], known_at: datetime | None
    ) -> list[UsagePart]:
        self.asked.append(len(scopes))
        return []

    async def levels_and_events(
        self, tenant_id: str, meter: Meter, scopes: Sequence[QuantityScope]
    ) -> tuple[list[Decimal], list[EventColumns]]:
        return [Decimal(0)] * len(scopes), await self.events(tenant_id, meter, scopes, None, carried=False)

    async def events(
        self,
        tenant_id: str,
        meter: Meter,
        scopes: Sequence[QuantityScope],
        known_at: datetime | None,
        *,
        carried: bool,
    ) -> list[EventColumns]:
        self.asked.append(len(scopes))
        return [NO_EVENTS] * len(scopes)


def meter(aggregation: Aggregation, **options: object) -> Meter:
    return Meter("m", "", "job", aggregation, "size", **options)  # type: ignore[arg-type]


PRORATED = meter(Aggregation.SUM, prorated=True)
SEATS = meter(Aggregation.SUM, prorated=True, carry_over=True)
LEVEL = meter(Aggregation.WEIGHTED_SUM, carry_over=True)
UNIQUE = meter(Aggregation.UNIQUE_COUNT)
HOURS = meter(Aggregation.SUM, buckets=Buckets(BucketLength.HOUR, Aggregation.MAX))
HALF = MAX_AT_ONCE // 2


class TestPortions:
    @pytest.mark.parametrize(
        ("of", "counts", "asked"),
        [
            (PRORATED, [(HALF, 0)] * 5, [2, 2, 1]),
            (PRORATED, [(1, 0), (9 * MAX_AT_ONCE, 0), (1, 0)], [1, 1, 1]),
            (SEATS, [(0, HALF)] * 5, [2, 2, 1]),
            (LEVEL, [(0, 9 * MAX_AT_ONCE)] * 5, [5]),
            (UNIQUE, [(9 * MAX_AT_ONCE, 0)] * 5, [5]),
            (HOURS, [(9 * MAX_AT_ONCE, 0)] * 200, [134, 66]),
        ],
        ids=[
            "events",
            "one is too large",
            "carried over",
            "of levels only the sum",
            "one number each",
            "a part an hour",
        ],
    )
    async def test_are_of_what_has_to_be_read(
        self, of: Meter, counts: Sequence[tuple[int, int]], asked: list[int]
    ) -> None:
        store = FakeStore(of, counts)
        scopes = [QuantityScope(f"cust-{number}", "m", MARCH) for number in range(len(counts))]

        found = await GetUsageQuantities(store)("acme", scopes)

        assert store.asked == asked
        assert [quantity.highest_version for quantity in found] == list(range(len(counts)))

    async def test_of_a_level_as_it_was_known_all_events_are_read(self) -> None:
        store = FakeStore(LEVEL, [(0, HALF)] * 3)
        scopes = [QuantityScope(f"cust-{number}", "m", MARCH) for number in range(3)]

        found = await GetUsageQuantities(store)("acme", scopes, MARCH.end)

        assert store.asked == [2, 1]
        assert [quantity.highest_version for quantity in found] == [0, 0, 0]

    async def test_of_a_level_that_begins_inside_a_window_events_are_read(self) -> None:
        store = FakeStore(LEVEL, [(0, HALF)] * 3)
        inside = Period(MARCH.start + timedelta(minutes=1), MARCH.end)

        await GetUsageQuantities(store)("acme", [QuantityScope(f"cust-{number}", "m", inside) for number in range(3)])

        assert store.asked == [2, 1]
