"""The recorders' memory of meters, which several of them read at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import asyncpg

from services.ingest.store.meter_cache import MeterCache

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)

Row = Mapping[str, Any]


class FakeDriver:
    """Answers with what its transaction sees: first how many changes, then, when it may, the meters asked for, all in
    the same version."""

    def __init__(self, *, version: int = 1, **meters: int) -> None:
        self._meters = meters
        self._version = version
        self.counted = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def fetch(self, _query: str, tenants: Sequence[str]) -> list[Row]:
        if not self.counted.is_set():
            self.counted.set()
            return [{"tenant_id": tenant, "changes": self._meters[tenant] * self._version} for tenant in tenants]
        await self.goes_on.wait()
        return [
            a_row(tenant, f"m{number}", self._version) for tenant in tenants for number in range(self._meters[tenant])
        ]


def a_row(tenant_id: str, meter_id: str, version: int) -> Row:
    texts: Row = dict.fromkeys(("display_name", "description", "event_type", "expression", "unit"), "") | {
        "options": {}
    }
    lists: dict[str, list[str]] = {"filters": [], "group_by": []}
    return {
        "tenant_id": tenant_id,
        "meter_id": meter_id,
        "aggregation": "count",
        "created_at": NOON,
        "version": version,
        "archived_at": None,
        **texts,
        **lists,
    }


async def read(cache: MeterCache, driver: FakeDriver, *tenants: str) -> dict[str, int]:
    """How many meters of each tenant a transaction gets."""
    found = await cache.read(cast(asyncpg.Connection, driver), tenants)
    return {tenant: len(meters) for tenant, meters in found.items()}


class TestMeterCache:
    async def test_a_slower_recorder_takes_no_meter_from_a_faster_one(self) -> None:
        """Events accepted after the sixth meter was made would otherwise not count for it."""
        cache = MeterCache()
        slow, fast = FakeDriver(acme=5), FakeDriver(acme=6, beta=1)
        slow.goes_on.clear()
        reading = asyncio.create_task(read(cache, slow, "acme"))
        await slow.counted.wait()
        await read(cache, FakeDriver(acme=6), "acme")
        fast.goes_on.clear()
        faster = asyncio.create_task(read(cache, fast, "acme", "beta"))
        await fast.counted.wait()

        slow.goes_on.set()
        await reading
        fast.goes_on.set()

        assert await faster == {"acme": 6, "beta": 1}

    async def test_what_was_overwritten_is_read_again(self) -> None:
        cache = MeterCache()
        await read(cache, FakeDriver(acme=5), "acme")

        assert await read(cache, FakeDriver(acme=6), "acme") == {"acme": 6}
        assert await read(cache, FakeDriver(acme=6, beta=0), "acme", "beta") == {"acme": 6, "beta": 0}

    async def test_a_new_version_is_read(self) -> None:
        cache = MeterCache()
        await read(cache, FakeDriver(acme=2), "acme")

        found = await cache.read(cast(asyncpg.Connection, FakeDriver(acme=2, version=2)), ["acme"])

        assert [meter.version for meter in found["acme"]] == [2, 2]

    async def test_what_is_known_in_its_newest_version_is_not_read_again(self) -> None:
        cache = MeterCache()
        await read(cache, FakeDriver(acme=2, version=3), "acme")
        driver = FakeDriver(acme=2, version=3)
        driver.goes_on.clear()  # It would wait for ever if it were asked for meters.

        assert await asyncio.wait_for(read(cache, driver, "acme"), 5) == {"acme": 2}
