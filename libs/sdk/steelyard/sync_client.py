"""The client for programs without an event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from opentelemetry import context as otel_context

from steelyard.charge_watch import ChargeUpdate
from steelyard.client import Client
from steelyard.delivery import Ack, DeliveryReport, EventProblem
from steelyard.errors import ClientClosed, SteelyardError
from steelyard.events import PropertyValue, UsageEvent
from steelyard.services import Services
from steelyard.settings import Endpoints, Options
from steelyard.sync_watch import blocking

T = TypeVar("T")


class SyncClient:
    """Client with blocking calls; safe to share between threads::

        with SyncClient(api_key="sy_...") as client:
            client.record("llm.request", "cust-01", {"input_tokens": 812})

    It runs a Client in an event loop of its own, on a daemon thread, which does not survive a fork: make one client
    per process. Close it, or what is still buffered goes with the process.
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
        """See Client; `on_problem` is called on the client's own thread, and must not call the client."""
        self._process = os.getpid()
        self._closing = threading.Lock()
        self._handing_over = threading.Lock()
        self._stopped = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="steelyard-client", daemon=True)
        self._thread.start()

        async def make() -> Client:
            return Client(
                api_key=api_key,
                endpoints=endpoints,
                source=source,
                tenant_id=tenant_id,
                options=options,
                on_problem=on_problem,
            )

        self._client = self._run(make())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None
    ) -> None:
        self.close()

    def record(
        self,
        event_type: str,
        customer_id: str,
        properties: Mapping[str, PropertyValue] | None = None,
        *,
        event_id: str | None = None,
        event_time: datetime | None = None,
    ) -> str:
        """See Client.record."""
        return self._run(
            self._client.record(event_type, customer_id, properties, event_id=event_id, event_time=event_time)
        )

    def record_event(self, event: UsageEvent) -> None:
        """See Client.record_event."""
        self._run(self._client.record_event(event))

    def send(self, events: Sequence[UsageEvent], *, ack: Ack = Ack.QUEUED) -> DeliveryReport:
        """See Client.send."""
        return self._run(self._client.send(events, ack=ack))

    def flush(self) -> DeliveryReport:
        """See Client.flush."""
        return self._run(self._client.flush())

    def watch_charges(
        self,
        customer_ids: Sequence[str] = (),
        *,
        subscription_ids: Sequence[str] = (),
        min_interval: timedelta | None = None,
        ending_after: datetime | None = None,
    ) -> Iterator[ChargeUpdate]:
        """See Client.watch_charges; leaving the loop ends it."""
        updates = self._client.watch_charges(
            customer_ids, subscription_ids=subscription_ids, min_interval=min_interval, ending_after=ending_after
        )
        return blocking(updates, self._run)

    def call(self, make_call: Callable[[Services], Coroutine[Any, Any, T]]) -> T:
        """Call any service: `client.call(lambda s: s.invoices.GetInvoice(request))`.

        :raises SteelyardError: if the call fails
        """

        async def make() -> T:
            return await make_call(self._client.services)

        return self._run(make())

    def close(self) -> None:
        """See Client.close. Calls of other threads that have not ended by then raise ClientClosed."""
        self._check_caller()
        with self._closing:
            if self._stopped:
                return
            try:
                self._run(self._client.close())
            finally:
                with self._handing_over:
                    self._stopped = True
                asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result()
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
                self._loop.close()

    def _check_caller(self) -> None:
        """
        :raises SteelyardError: if the call could only hang
        """
        if os.getpid() != self._process:
            raise SteelyardError("the client was made before a fork; make one per process")
        if threading.current_thread() is self._thread:
            raise SteelyardError("on_problem must not call the client that calls it")

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        context = otel_context.get_current()  # The caller's span; the loop's thread has none.

        async def with_context() -> T:
            token = otel_context.attach(context)
            try:
                return await work
            finally:
                otel_context.detach(token)

        try:
            self._check_caller()
            with self._handing_over:
                if self._stopped:
                    raise ClientClosed("the client is closed")
                outcome = asyncio.run_coroutine_threadsafe(with_context(), self._loop)
        except SteelyardError:
            work.close()
            raise
        try:
            return outcome.result()
        except concurrent.futures.CancelledError as error:
            raise ClientClosed("the client was closed meanwhile") from error


async def _cancel_others() -> None:
    """End what other threads still wait for; once the loop has stopped they would wait for ever."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
