"""Read the present charges that a stream watches."""

from __future__ import annotations

from collections.abc import AsyncIterator

from services.rating.domain.billing_period import PeriodKey
from services.rating.domain.live_charge import ChargeWatch, LiveCharge
from services.rating.usecases.ports import OpenWork

_PERIODS = 200


class ReadLiveCharges:
    """Reads present charges page by page, each in a transaction of its own: its reader may take its time between two.

    The pages are of different moments. What changes meanwhile is published afterwards; who subscribed before gets it.
    """

    def __init__(self, open_work: OpenWork, periods: int = _PERIODS) -> None:
        """`periods`: billing periods per page."""
        self._open_work = open_work
        self._periods = periods

    async def __call__(self, watch: ChargeWatch) -> AsyncIterator[list[LiveCharge]]:
        """Yield the charges of the watched billing periods, each once."""
        after: PeriodKey | None = None
        while True:
            async with self._open_work(watch.tenant_id) as work:
                charges, after = await work.live_charges.page(watch, after, self._periods)
            if charges:
                yield charges
            if after is None:
                return
