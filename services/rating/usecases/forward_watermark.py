"""Pass ingest's watermark on to billing, behind the charges that it covers."""

from __future__ import annotations

from datetime import datetime

from services.rating.usecases.ports import OpenWork


class ForwardWatermark:
    """Lets a received watermark count and offers it once all usage before it is rated.

    It counts when the consumer's acknowledgement floor has reached it: every window before it is committed then, and
    with it the mark of each billing period that it changed. It is offered when no such mark is left. Periods that were
    set aside do not hold it up: confirming their charges says that they cannot be invoiced.
    """

    def __init__(self, open_work: OpenWork) -> None:
        self._open_work = open_work

    async def __call__(self, stream_epoch: datetime, ack_floor: int) -> datetime | None:
        """Offer the next watermark if it may pass, and return it."""
        async with self._open_work() as work:
            counted = await work.watermarks.counted(stream_epoch, ack_floor)
        if counted is None:
            return None
        watermark, mark = counted
        # A transaction of its own: the mark's number is drawn, so what is read now decides for good.
        async with self._open_work() as work:
            oldest = await work.queue.oldest_mark()
            if oldest is not None and oldest < mark:
                return None
            await work.watermarks.pass_on(watermark)
        return watermark.at
