"""The sealer's rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from services.ingest.usecases.seal_log import SealLog

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


class Sealing:
    """Three tenants, of which the second one fails; the first has two parts."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.sealed: list[str] = []

    async def watermark(self) -> datetime | None:
        return NOON

    async def tenants(self, due: datetime, due_of: Mapping[str, datetime]) -> Sequence[str]:
        return ["a", "b", "c"]

    async def seal(self, tenant_id: str, due: datetime, now: datetime) -> bool:
        if tenant_id == "b":
            raise self._error
        self.sealed.append(tenant_id)
        return self.sealed.count("a") == 1 and tenant_id == "a"


async def test_what_fails_for_one_tenant_does_not_keep_others_waiting(caplog: pytest.LogCaptureFixture) -> None:
    sealing = Sealing(ValueError("poison"))

    await SealLog(sealing, lambda: NOON, dict, timedelta(hours=1))()

    assert sealing.sealed == ["a", "c", "a"]
    assert "the log of b is not sealed" in caplog.text


async def test_an_outage_is_everybodys() -> None:
    sealing = Sealing(ConnectionRefusedError("away"))

    with pytest.raises(ConnectionRefusedError):
        await SealLog(sealing, lambda: NOON, dict, timedelta(hours=1))()
