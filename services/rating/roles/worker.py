"""The worker: consumes windows and billing periods, rates, and publishes charges and watermarks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta

from nats.aio.client import Client

from libs.clock import Clock, system_clock
from libs.database import Database
from libs.messaging import (
    BILLING,
    INGEST,
    JetStreamPublisher,
    ParkedMessages,
    PullConsumer,
)
from libs.outbox import StateRelay, WatermarkFeed, WatermarkForwarder
from services.rating.messaging import billing_period_consumer, charge_feed, usage_consumer
from services.rating.messaging.watermark_loop import WatermarkLoop
from services.rating.metrics import RatingMetrics
from services.rating.store import tables
from services.rating.store.charges import read_charges
from services.rating.store.unit_of_work import WATERMARK_NAME, PostgresUnitOfWork
from services.rating.usecases.accept_billing_periods import AcceptBillingPeriods
from services.rating.usecases.apply_usage import ApplyUsage
from services.rating.usecases.ask_quantities import AskQuantities
from services.rating.usecases.fetch_usage import FetchUsage
from services.rating.usecases.forward_watermark import ForwardWatermark
from services.rating.usecases.ports import IngestWindows
from services.rating.usecases.rate_asked_periods import RateAskedPeriods
from services.rating.usecases.rate_chunk import RateChunk
from services.rating.usecases.rate_due_periods import RateDuePeriods
from services.rating.usecases.rate_periods import RatedPeriods
from services.rating.usecases.rater import Rater
from services.rating.wire.usage import watermark_to_bytes


class Wakes:
    """What has to look at once after a commit in this process; empty where the worker runs elsewhere."""

    def __init__(self, metrics: RatingMetrics) -> None:
        self._metrics = metrics
        self.rater: asyncio.Event | None = None
        self.relay: asyncio.Event | None = None

    def marked(self) -> None:
        """Billing periods have to be rated."""
        if self.rater is not None:
            self.rater.set()

    def rated(self, rated: RatedPeriods) -> None:
        """Charges have to be published."""
        self._metrics.rated(rated)
        if self.relay is not None and rated.changed_count:
            self.relay.set()


class Worker:
    """Consumes windows and billing periods, rates, and publishes charges and watermarks."""

    def __init__(
        self, database: Database, messaging: Client, ingest: IngestWindows, wakes: Wakes, metrics: RatingMetrics
    ) -> None:
        self._database = database
        self._js = messaging.jetstream()
        self._wakes = wakes
        self._metrics = metrics
        open_work = PostgresUnitOfWork(database, watermark_to_bytes)
        publisher = JetStreamPublisher(self._js)
        charges = charge_feed.charge_feed(tables.charge_marks, read_charges)
        self._relay = StateRelay(database, publisher, charges, system_clock)
        watermarks = WatermarkFeed(
            WATERMARK_NAME, tables.outbox_watermarks, tables.charge_marks, charge_feed.WATERMARK_SUBJECT
        )
        self._forwarder = WatermarkForwarder(database, publisher, watermarks, system_clock)
        ask = AskQuantities(open_work, ingest)
        rate_chunk = RateChunk(open_work, system_clock, self._rated)
        rate_asked_periods = RateAskedPeriods(ask, rate_chunk)
        self._rater = Rater(
            RateDuePeriods(open_work, rate_chunk, ask, rate_asked_periods, system_clock), rate_asked_periods
        )
        self._watermark_loop = WatermarkLoop(self._js, ForwardWatermark(open_work), metrics.forwarded)
        wakes.rater, wakes.relay = self._rater.wake, self._relay.wake
        self._apply_usage = ApplyUsage(open_work, system_clock, wakes.marked)
        fetch_usage = FetchUsage(ingest, self._apply_usage)
        self._accept_billing_periods = AcceptBillingPeriods(open_work, fetch_usage, system_clock, wakes.marked)

    def parts(self, stopping: asyncio.Event) -> dict[str, Coroutine[object, object, None]]:
        """The loops of the worker, by name."""
        return {
            "usage consumer": self._usage_consumer(system_clock).run(stopping),
            "billing period consumer": self._billing_period_consumer(system_clock).run(stopping),
            "rater": self._rater.run(stopping),
            "asking rater": self._rater.run_asked(stopping),
            "charge relay": self._relay.run(stopping),
            "watermark loop": self._watermark_loop.run(stopping),
            "watermark forwarder": self._forwarder.run(stopping),
        }

    def _rated(self, rated: RatedPeriods, waited: timedelta) -> None:
        self._metrics.waited(waited)
        self._wakes.rated(rated)

    def _usage_consumer(self, clock: Clock) -> PullConsumer:
        durable = usage_consumer.DURABLE
        parked = ParkedMessages(
            self._database, tables.parked, consumer=durable, clock=clock, tenant_of=usage_consumer.tenant_of
        )
        return PullConsumer(
            self._js,
            stream=INGEST.name,
            durable=durable,
            subjects=(usage_consumer.WINDOW_SUBJECT, usage_consumer.WATERMARK_SUBJECT),
            handler=usage_consumer.UsageConsumer(self._apply_usage),
            park=parked.park,
            batch=usage_consumer.BATCH,
        )

    def _billing_period_consumer(self, clock: Clock) -> PullConsumer:
        durable = billing_period_consumer.DURABLE
        parked = ParkedMessages(self._database, tables.parked, consumer=durable, clock=clock)
        return PullConsumer(
            self._js,
            stream=BILLING.name,
            durable=durable,
            subjects=(billing_period_consumer.SUBJECT,),
            handler=billing_period_consumer.BillingPeriodConsumer(self._accept_billing_periods),
            park=parked.park,
            batch=billing_period_consumer.BATCH,
        )
