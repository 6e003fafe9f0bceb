"""One tenant whose search fails, among many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pytest

from services.ingest.usecases.find_missing_usage import FindMissingUsage

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
TENANTS = [f"tenant-{number:03}" for number in range(150)]


class FakeMissingUsage:
    """Finds one thing of each tenant, but of one nothing can be read."""

    def __init__(self, error: Exception, broken: str) -> None:
        self._error = error
        self._broken = broken
        self.searched: list[str] = []

    async def take_turn(self, now: datetime) -> Sequence[str]:
        return TENANTS

    async def search(self, tenant_ids: Sequence[str], now: datetime, test_times: Mapping[str, datetime]) -> int:
        if self._broken in tenant_ids:
            raise self._error
        self.searched += tenant_ids
        return len(tenant_ids)

    async def compare(self, tenant_ids: Sequence[str], now: datetime, test_times: Mapping[str, datetime]) -> bool:
        return False


async def test_the_others_are_searched(caplog: pytest.LogCaptureFixture) -> None:
    usage = FakeMissingUsage(ValueError("a row that nobody can read"), "tenant-042")

    opened = await FindMissingUsage(usage, lambda: NOW, dict)()

    assert opened == 149
    assert sorted(usage.searched) == [tenant for tenant in TENANTS if tenant != "tenant-042"]
    assert "missing usage of tenant-042" in caplog.text


async def test_an_outage_is_no_fault_of_a_tenant() -> None:
    usage = FakeMissingUsage(ConnectionRefusedError(), "tenant-042")

    with pytest.raises(ConnectionRefusedError):
        await FindMissingUsage(usage, lambda: NOW, dict)()

    assert usage.searched == []
