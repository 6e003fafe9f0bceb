"""Answers of usage queries on the wire."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from libs.money import plain
from libs.periods import Period
from services.ingest.usecases.usage_rows import UsageRow
from services.ingest.wire.times import time_to_pb
from steelyard.ingest.v1 import usage_service_pb2


def usage_rows_to_pb(rows: Sequence[UsageRow], times: Sequence[Period]) -> list[usage_service_pb2.UsageRow]:
    # A row ends where the next one begins, and many groups share one time: each instant is made once.
    used = [times[index] for index in {row.index for row in rows}]
    instants = {at: time_to_pb(at) for at in {edge for time in used for edge in (time.start, time.end)}}
    return [_row(row, instants[times[row.index].start], instants[times[row.index].end]) for row in rows]


def _row(row: UsageRow, start: Timestamp, end: Timestamp) -> usage_service_pb2.UsageRow:
    message = usage_service_pb2.UsageRow(
        start_time=start,
        end_time=end,
        customer_id=row.customer_id,
        value=plain(row.value),
        event_count=row.event_count,
        rank=row.rank,
        others=row.others,
    )
    if row.dimensions:  # A map takes as long to set as all the rest.
        message.dimensions.update(row.dimensions)
    return message
