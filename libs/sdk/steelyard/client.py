"""The asynchronous client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Self

import grpc

from steelyard.channels import credentials_metadata, open_channel
from steelyard.charge_watch import ChargeUpdate, ChargeWatcher, charges_request
from steelyard.delivery import Ack, DeliveryReport, EventProblem, tell
from steelyard.errors import BufferFull, ClientClosed, DeliveryFailed, SteelyardError
from steelyard.events import PropertyValue, UsageEvent, make_event
from steelyard.numbering import Numbering
from steelyard.outbound import OutboundBatch
from steelyard.retry import Retrying
from steelyard.services import Services
from steelyard.settings import Endpoints, Options
from steelyard.streaming import EventStream
from steelyard.unary import BatchSender, CallSender

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_EVENTS, _MAX_BYTES = 1000, 750_000


class Client:
    """Sends usage events and reaches every service. Use it inside one event loop::

        async with Client(api_key="sy_...", source="api-gateway") as client:
            await client.record("llm.request", "cust-01", {"input_tokens": 812})

    `record` returns at once; batches leave by size and time and are tried again with the same event ids until they are
    answered. `flush` waits for the answers. Nothing is dropped silently: what could not be delivered comes back
    in DeliveryFailed, from the next `flush` or `close`, or from `record` when there is a buffer full of it.
    """

    def __init__(
        self,
        *,
        api_key: str,
        endpoints: Endpoints | None = None,
        source: str = "sdk",
        tenant_id: str = "",
        options: Options | None = None,
        on_problem: Callable[[EventProblem], None] | None = None,
    ) -> None:
        """Make a client; it connects on first use.

        :param endpoints: default: from the environment
        :param source: source of events that name none
        :param tenant_id: for operator keys only: the tenant to act for
        :param on_problem: called for each rejected or conflicting event of `record`
        """
        self._options = options or Options()
        self._source, self._on_problem = source, on_problem
        self._endpoints = endpoints or Endpoints.from_env()
        self._api_key, self._tenant_id = api_key, tenant_id
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._open = OutboundBatch()
        self._undelivered, self._undelivered_bytes = 0, 0
        self._space = asyncio.Event()
        self._space.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._linger: asyncio.TimerHandle | None = None
        self._report, self._failed = DeliveryReport(), list[UsageEvent]()
        self._failure: BaseException | None = None
        self._closed = False
        self._numbering = Numbering() if self._options.number_events else None
        self.services = Services(self._channel)
        self._retrying = Retrying(self._options.backoff_s)
        self._sender: BatchSender = self._stream() if self._options.stream else self._calls(Ack.QUEUED)
        self._in_flight = asyncio.Semaphore(self._sender.at_a_time)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None
    ) -> None:
        await self.close()

    async def record(
        self,
        event_type: str,
        customer_id: str,
        properties: Mapping[str, PropertyValue] | None = None,
        *,
        event_id: str | None = None,
        event_time: datetime | None = None,
    ) -> str:
        """Put one event into the buffer and return its id; waits while the buffer is full.

        :raises TypeError: if a property is neither str, int nor Decimal
        :raises DeliveryFailed: with earlier events, if buffer_events of them could not be delivered; this one is not
            among them and was not taken
        :raises ClientClosed: after close
        """
        event = make_event(event_type, customer_id, properties, event_id, event_time)
        await self.record_event(event)
        return event.event_id

    async def record_event(self, event: UsageEvent) -> None:
        """Like record, with an event."""
        while self._is_full():
            self._space.clear()
            await self._space.wait()
        self.record_nowait(event)

    def record_nowait(self, event: UsageEvent) -> None:
        """Put one event into the buffer without waiting.

        :raises BufferFull: if buffer_events or buffer_bytes are undelivered
        :raises DeliveryFailed, ClientClosed: like record
        """
        if self._closed:
            raise ClientClosed("the client is closed")
        if len(self._failed) >= self._options.buffer_events:
            raise self._take_failed()
        if self._is_full():
            raise BufferFull(f"{self._undelivered} events are undelivered")
        if self._numbering:
            (event,) = self._numbering.numbered([event], self._source)
        encoded = event.to_pb(self._source)
        if self._numbering:
            self._numbering.take([event], self._source)
        if self._open and not self._open.has_room(encoded, _MAX_BYTES):
            self._dispatch()  # Together they would be refused.
        before_bytes = self._open.size_bytes
        self._open.add(event, encoded)
        self._undelivered += 1
        self._undelivered_bytes += self._open.size_bytes - before_bytes
        if len(self._open) >= self._options.batch_events or self._open.size_bytes >= self._options.batch_bytes:
            self._dispatch()
        elif self._linger is None:
            self._linger = asyncio.get_running_loop().call_later(self._options.linger_s, self._dispatch)

    async def send(self, events: Sequence[UsageEvent], *, ack: Ack = Ack.QUEUED) -> DeliveryReport:
        """Send events now, past the buffer, and return what became of them.

        :raises DeliveryFailed: if they could not be delivered within delivery_timeout_s; with those not yet delivered
        :raises SteelyardError: if the server refused a call as a whole
        :raises ClientClosed: after close
        """
        if self._closed:
            raise ClientClosed("the client is closed")
        report, sender = DeliveryReport(), self._calls(ack)
        if self._numbering:
            events = self._numbering.numbered(events, self._source)
        # Encoded before the first one leaves: a wrong event sends none.
        batches = list(OutboundBatch.cut(events, self._source, max_events=_MAX_EVENTS, max_bytes=_MAX_BYTES))
        if self._numbering:
            self._numbering.take(events, self._source)
        for index, batch in enumerate(batches):
            try:
                verdicts, problems = await sender.deliver(batch)
            except DeliveryFailed as error:
                left = [event for later in batches[index:] for event in later.events]
                raise DeliveryFailed(str(error.args[0]), left) from error.__cause__
            report.add(verdicts, problems)
        return report

    async def flush(self) -> DeliveryReport:
        """Wait until every event recorded so far is answered; return what became of them since the last flush.

        :raises DeliveryFailed: with the events that could not be delivered
        """
        self._dispatch()
        if self._tasks:
            await asyncio.wait(set(self._tasks))
        report, self._report = self._report, DeliveryReport()
        if self._failed:
            raise self._take_failed()
        return report

    async def close(self) -> DeliveryReport:
        """Flush and close. Safe to call twice.

        :raises DeliveryFailed: like flush
        """
        self._closed = True
        try:
            return await self.flush()
        finally:
            await self._sender.close()
            channels, self._channels = self._channels, {}
            for channel in channels.values():
                await channel.close()

    def watch_charges(
        self,
        customer_ids: Sequence[str] = (),
        *,
        subscription_ids: Sequence[str] = (),
        min_interval: timedelta | None = None,
        ending_after: datetime | None = None,
    ) -> AsyncGenerator[ChargeUpdate, None]:
        """Yield the present charges of these customers (or subscriptions, or of all), and then every change of them::

            async for update in client.watch_charges(["cust-01"]):
                for charge in update.charges: ...

        A stream that ends is opened again; a charge comes only when it has changed since it came last.

        :param min_interval: the shortest time between two states of a charge; default 200 ms
        :param ending_after: watch all billing periods that end after it; default: those that are open
        :raises SteelyardError: if it cannot succeed, or nobody answers for delivery_timeout_s
        """
        request = charges_request(customer_ids, subscription_ids, min_interval, ending_after)
        credentials = credentials_metadata(self._api_key, self._tenant_id)
        watcher = ChargeWatcher(
            lambda: self.services.charge_streams.StreamCharges(request, metadata=credentials),
            self._retrying,
            lambda: self._closed,
            timeout_s=self._options.delivery_timeout_s,
        )
        return watcher.updates()

    def _channel(self, endpoint: str) -> grpc.aio.Channel:
        if endpoint not in self._channels:
            target = str(getattr(self._endpoints, endpoint))
            if not target:
                raise SteelyardError(f"no target for {endpoint}: set it in Endpoints or the environment")
            self._channels[endpoint] = open_channel(
                target, secret=self._api_key, tenant_id=self._tenant_id, timeout_s=self._options.call_timeout_s
            )
        return self._channels[endpoint]

    def _calls(self, ack: Ack) -> CallSender:
        return CallSender(
            lambda: self.services.ingest,
            self._retrying,
            ack=ack,
            at_a_time=self._options.in_flight_batches,
            timeout_s=self._options.delivery_timeout_s,
        )

    def _stream(self) -> EventStream:
        credentials = credentials_metadata(self._api_key, self._tenant_id)
        return EventStream(
            lambda: self.services.ingest.StreamEvents(metadata=credentials),
            self._retrying,
            timeout_s=self._options.delivery_timeout_s,
            silence_s=self._options.call_timeout_s,
        )

    def _is_full(self) -> bool:
        options = self._options
        return self._undelivered >= options.buffer_events or self._undelivered_bytes >= options.buffer_bytes

    def _dispatch(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if self._open:
            batch, self._open = self._open, OutboundBatch()
            task = asyncio.get_running_loop().create_task(self._deliver(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver(self, batch: OutboundBatch) -> None:
        try:
            async with self._in_flight:
                verdicts, problems = await self._sender.deliver(batch)
        except BaseException as error:  # Whatever it is, the events come back.
            self._failed.extend(batch.events)
            self._failure = error
            if not isinstance(error, Exception):
                raise
        else:
            self._report.add(verdicts, problems)
            tell(self._on_problem, problems)
        finally:
            self._undelivered -= len(batch)
            self._undelivered_bytes -= batch.size_bytes
            self._space.set()

    def _take_failed(self) -> DeliveryFailed:
        """The error with everything that could not be delivered, which is then its receiver's to deal with."""
        failed, self._failed = self._failed, []
        failure, self._failure = self._failure, None
        error = DeliveryFailed(f"{len(failed)} events could not be delivered: {failure}", failed)
        error.__cause__ = failure
        return error
