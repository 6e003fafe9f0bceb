"""Transactional outboxes: facts (a row each), state (a mark per change) and watermarks that follow the state.

A use case writes into an outbox in its own transaction; a relay, in a worker process, publishes what was committed.
Everything is published at least once, under the same `Nats-Msg-Id` each time.
"""

from libs.outbox.fact_relay import FactRelay
from libs.outbox.facts import Fact, FactOutbox, FactTables, fact_tables
from libs.outbox.leases import lease_table
from libs.outbox.marks import Mark, StateOutbox, mark_table, marking, pending_floor
from libs.outbox.pace import Pace, StepPace
from libs.outbox.packing import StateValue
from libs.outbox.publisher import Publisher
from libs.outbox.state_relay import StateFeed, StateRelay
from libs.outbox.watermark_forwarder import WatermarkFeed, WatermarkForwarder
from libs.outbox.watermarks import WatermarkOutbox, watermark_table

__all__ = [
    "Fact",
    "FactOutbox",
    "FactRelay",
    "FactTables",
    "Mark",
    "Pace",
    "Publisher",
    "StateFeed",
    "StateOutbox",
    "StateRelay",
    "StateValue",
    "StepPace",
    "WatermarkFeed",
    "WatermarkForwarder",
    "WatermarkOutbox",
    "fact_tables",
    "lease_table",
    "mark_table",
    "marking",
    "pending_floor",
    "watermark_table",
]
