"""Charges while they change: one stream after the other, as if it were one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

import grpc

from steelyard.errors import ClientClosed, DeadlineExceeded, SteelyardError, Unavailable, error_from
from steelyard.rating.v1 import charge_pb2
from steelyard.rating.v1 import charge_stream_service_pb2 as pb
from steelyard.retry import Retrying, worth_retrying

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOGGER = logging.getLogger("steelyard")
_SILENCE_S = 45.0
"""The server sends a heartbeat every 15 s, later by up to 10 s for those who want few messages."""

Call: TypeAlias = "grpc.aio.UnaryStreamCall[pb.StreamChargesRequest, pb.StreamChargesResponse]"
_Key = tuple[str, int, int, str]


@dataclass(frozen=True, slots=True)
class ChargeUpdate:
    """Charges that are new or have changed, each in its newest state, and what the charges received so far contain.

    `is_current` is false while the present charges are still being read, at the beginning and after an interruption.
    `watermark` (UTC): all events that were acknowledged before it are contained; None where this update does not say.
    An update without charges only says that nothing else has changed.
    """

    charges: tuple[charge_pb2.Charge, ...]
    is_current: bool
    watermark: datetime | None = None


def charges_request(
    customer_ids: Sequence[str],
    subscription_ids: Sequence[str],
    min_interval: timedelta | None,
    ending_after: datetime | None,
) -> pb.StreamChargesRequest:
    """Return what to ask for.

    :raises ValueError: if `ending_after` has no zone
    """
    request = pb.StreamChargesRequest(customer_ids=customer_ids, subscription_ids=subscription_ids)
    if min_interval is not None:
        request.min_interval.FromTimedelta(min_interval)
    if ending_after is not None:
        if ending_after.utcoffset() is None:
            raise ValueError(f"ending_after needs a zone: {ending_after!r}")
        request.ending_after.FromDatetime(ending_after.astimezone(UTC))
    return request


class ChargeWatcher:
    """Opens a stream again whenever it ends; what was told already is not told again.

    When no stream has said anything for `timeout_s`, it gives up rather than let old charges pass for current ones.
    """

    def __init__(
        self,
        open_call: Callable[[], Call],
        retrying: Retrying,
        is_closed: Callable[[], bool],
        *,
        timeout_s: float,
        silence_s: float = _SILENCE_S,
    ) -> None:
        """
        :param silence_s: how long a stream may say nothing before it is given up for another one
        """
        self._open_call, self._retrying, self._is_closed = open_call, retrying, is_closed
        self._timeout_s, self._silence_s = timeout_s, silence_s
        self._versions: dict[_Key, int] = {}
        self._heard_at = time.monotonic()
        self._failures = 0

    async def updates(self) -> AsyncGenerator[ChargeUpdate, None]:
        """Yield updates without end.

        :raises SteelyardError: if that cannot succeed, or no stream could be read for too long
        """
        self._retrying.first_try()
        self._heard_at = time.monotonic()
        while True:
            if self._is_closed():
                raise ClientClosed("the client was closed")
            call = self._open_call()
            try:
                is_current = False
                while True:
                    message = await self._next(call)
                    is_current = is_current or message.WhichOneof("content") != "snapshot"
                    yield self._update(message, is_current)
            except SteelyardError as error:
                await self._pause_after(error)
            finally:
                call.cancel()

    async def _next(self, call: Call) -> pb.StreamChargesResponse:
        """
        :raises SteelyardError: if the stream has ended or is silent
        """
        try:
            async with asyncio.timeout(self._silence_s):
                message = await call.read()
        except TimeoutError as error:
            raise DeadlineExceeded(f"the stream of charges said nothing for {self._silence_s:g} s") from error
        except grpc.aio.AioRpcError as error:
            raise error_from(error) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise Unavailable("the stream of charges was cancelled") from None  # Not we: the call was.
        if not isinstance(message, pb.StreamChargesResponse):
            raise Unavailable("the server ended the stream of charges")
        self._heard_at, self._failures = time.monotonic(), 0
        return message

    async def _pause_after(self, error: SteelyardError) -> None:
        """Wait before the next stream.

        :raises SteelyardError: if there should be none
        """
        if not worth_retrying(error):
            raise error
        self._failures += 1
        pause = self._retrying.pause_s(self._failures, error, self._heard_at + self._timeout_s)
        if pause is None:
            raise error
        _LOGGER.info("the stream of charges is opened again: %s", error)
        await asyncio.sleep(pause)

    def _update(self, message: pb.StreamChargesResponse, is_current: bool) -> ChargeUpdate:
        watermark = None
        if message.heartbeat.HasField("watermark_time"):
            watermark = message.heartbeat.watermark_time.ToDatetime(tzinfo=UTC)
        charges = self._fresh([*message.snapshot.charges, *message.changes.charges])
        return ChargeUpdate(charges, is_current, watermark)

    def _fresh(self, charges: Iterable[charge_pb2.Charge]) -> tuple[charge_pb2.Charge, ...]:
        fresh = []
        for charge in charges:
            start = charge.period.start
            key = (charge.subscription_id, start.seconds, start.nanos, charge.price_id)
            if charge.version > self._versions.get(key, 0):
                self._versions[key] = charge.version
                fresh.append(charge)
        return tuple(fresh)
