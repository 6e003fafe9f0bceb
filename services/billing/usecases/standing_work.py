"""The standing work of billing: make periods ahead, close those that are due, say how it stands."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from libs.clock import Clock
from libs.database import is_outage
from services.billing.usecases.close_periods import ClosePeriods
from services.billing.usecases.extend_periods import ExtendPeriods
from services.billing.usecases.metrics import DUE_PERIODS, WATERMARK_AGE
from services.billing.usecases.ports import Queues

_OUTAGE_REST_S = 1.0
_MEASURE_EVERY_S = 5.0

_logger = logging.getLogger(__name__)


async def close_periods_until(
    stopping: asyncio.Event,
    *,
    extend: ExtendPeriods,
    close: ClosePeriods,
    wake: Sequence[asyncio.Event],
    poll_s: float,
) -> None:
    """Extend and close, at once again while there is work; `wake` tells relays that something was committed."""

    async def step() -> int:
        # Ahead first: a period that is closed must have its successors in the queue.
        done = await extend() + await close()
        if done:
            for event in wake:
                event.set()
        return done

    await _repeat(step, stopping, poll_s)


async def measure_until(stopping: asyncio.Event, queues: Queues, clock: Clock) -> None:
    """Keep the gauges current."""

    async def step() -> int:
        due, rated_through = await queues.backlog(clock())
        DUE_PERIODS.set(due)
        if rated_through is not None:
            WATERMARK_AGE.set((clock() - rated_through).total_seconds())
        return 0

    await _repeat(step, stopping, _MEASURE_EVERY_S)


async def _repeat(step: Callable[[], Awaitable[int]], stopping: asyncio.Event, rest_s: float) -> None:
    """Call until stopped; what passes by itself is waited out, anything else ends the process."""
    while not stopping.is_set():
        delay_s = rest_s
        try:
            if await step():
                continue
        except Exception as error:
            if not is_outage(error):
                raise
            _logger.warning("the database could not: %r", error)
            delay_s = _OUTAGE_REST_S
        try:
            await asyncio.wait_for(stopping.wait(), delay_s)
        except TimeoutError:
            continue
