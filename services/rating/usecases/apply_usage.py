"""Take in usage windows, whoever brings them: ingest's stream, or ingest's answer when something was missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from libs.clock import Clock
from libs.database import retry_transient
from services.rating.domain.usage import ReceivedWatermark, WindowBatch
from services.rating.usecases.ports import OpenWork


class ApplyUsage:
    """Stores the windows that are new or newer, moves their roll-ups and marks what has to be rated.

    Windows are state with a version: order, repetition and overlap of batches do not matter.
    """

    def __init__(self, open_work: OpenWork, clock: Clock, on_marked: Callable[[], None]) -> None:
        self._open_work = open_work
        self._clock = clock
        self._on_marked = on_marked

    async def __call__(self, batch: WindowBatch, watermarks: Sequence[ReceivedWatermark] = ()) -> int:
        """Apply a batch and store the watermarks that came with it; return how many billing periods changed."""
        if not len(batch) and not watermarks:
            return 0  # Ingest's answer for a period without usage. And without a tenant, only workers could go on.
        changed = await retry_transient(lambda: self._apply(batch, watermarks))
        if changed:
            self._on_marked()
        return changed

    async def _apply(self, batch: WindowBatch, watermarks: Sequence[ReceivedWatermark]) -> int:
        tenants = batch.tenants()
        async with self._open_work(*tenants) as work:
            changed = 0
            if tenants:
                await work.usage.lock(tenants, exclusive=False)
                changed = await work.usage.apply(batch, self._clock())
            if watermarks:
                await work.watermarks.add(watermarks)
        return changed
