"""The role that records usage."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from libs.clock import system_clock
from libs.database import Database
from libs.messaging import USAGE_RAW, JetStreamPublisher, ParkedMessages, PullConsumer
from libs.outbox import StateRelay, WatermarkFeed, WatermarkForwarder
from services.ingest.messaging.customer_sync import CustomerSync
from services.ingest.messaging.keeper import Keeper, encode_watermark, park_with_position
from services.ingest.messaging.usage_recorder import DURABLE, SUBJECTS, UsageRecorder, tenant_of
from services.ingest.messaging.window_feed import WATERMARK_SUBJECT, WindowPublisher, window_feed
from services.ingest.messaging.window_pace import WindowPace
from services.ingest.roles.process import Parts, Process
from services.ingest.store import tables
from services.ingest.store.keeper import WATERMARK_NAME, PostgresKeeper
from services.ingest.store.known_customers import PostgresKnownCustomers
from services.ingest.store.parked import PostgresParkedPositions
from services.ingest.store.partitions import PartitionsAhead
from services.ingest.store.recording_transactions import PostgresRecordingTransactions
from services.ingest.store.usage_windows import read_windows
from services.ingest.usecases.record_usage import RecordUsage

_CHUNK_MESSAGES = 32

# A chunk costs a dozen statements and a commit, however few events are in it.
_RECORDER_REST_S = 0.05


def record(process: Process, worker: Database) -> Parts:
    """Consume the queue, keep the watermark and publish windows."""
    js, stopping = process.nats.jetstream(), process.stopping
    publisher = JetStreamPublisher(js)
    windows, pace = window_feed(tables.window_marks, read_windows), WindowPace()
    relay = StateRelay(worker, WindowPublisher(publisher), windows, system_clock, pace)

    def on_recorded(lag_s: float) -> None:
        pace.recorded(lag_s)
        relay.wake.set()

    feed = WatermarkFeed(WATERMARK_NAME, tables.watermarks, tables.window_marks, WATERMARK_SUBJECT)
    forwarder = WatermarkForwarder(worker, publisher, feed, system_clock)
    margin = timedelta(seconds=process.config.purge_margin_s)
    keeper = Keeper(
        js,
        publisher,
        PostgresKeeper(worker, encode_watermark, purge_margin=margin),
        system_clock,
        on_watermark=forwarder.wake.set,
    )
    customers = CustomerSync(PostgresKnownCustomers(worker))
    process.follow(customers.appliers())
    transactions = PostgresRecordingTransactions(worker)
    return _recorders(process, worker, transactions, on_recorded) | {
        "partitions": PartitionsAhead(transactions, system_clock).run(stopping),
        "keeper": keeper.run(stopping),
        "window relay": relay.run(stopping),
        "watermark forwarder": forwarder.run(stopping),
        "customers": customers.run(stopping),
    }


def _recorders(
    process: Process,
    worker: Database,
    transactions: PostgresRecordingTransactions,
    on_recorded: Callable[[float], None],
) -> Parts:
    """Several consumers, so that one computes while PostgreSQL works for another."""
    recorder = UsageRecorder(RecordUsage(transactions, system_clock), process.nats, system_clock, on_recorded)
    parked = ParkedMessages(worker, tables.parked, consumer=DURABLE, clock=system_clock, tenant_of=tenant_of)
    park = park_with_position(parked.park, PostgresParkedPositions(worker))
    return {
        f"recorder {number}": PullConsumer(
            process.nats.jetstream(),
            stream=USAGE_RAW.name,
            durable=DURABLE,
            subjects=SUBJECTS,
            handler=recorder,
            park=park,
            batch=_CHUNK_MESSAGES,
            max_ack_pending=4 * _CHUNK_MESSAGES,
            rest_s=_RECORDER_REST_S,
        ).run(process.stopping)
        for number in range(process.config.recorders)
    }
