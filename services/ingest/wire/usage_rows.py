"""Answers of usage queries on the wire."""

from __future__ import annotations

from libs.money import plain
from libs.periods import Period
from services.ingest.usecases.usage_rows import UsageRow
from services.ingest.wire.times import time_to_pb
from steelyard.ingest.v1 import usage_service_pb2


def usage_row_to_pb(row: UsageRow, time: Period) -> usage_service_pb2.UsageRow:
    return usage_service_pb2.UsageRow(
        start_time=time_to_pb(time.start),
        end_time=time_to_pb(time.end),
        customer_id=row.customer_id,
        dimensions=row.dimensions,
        value=plain(row.value),
        event_count=row.event_count,
        rank=row.rank,
        others=row.others,
    )
