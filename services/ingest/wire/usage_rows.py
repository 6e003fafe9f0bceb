"""Answers of usage queries on the wire."""

from __future__ import annotations

from collections.abc import Sequence

from libs.money import plain
from libs.periods import Period
from services.ingest.usecases.usage_rows import UsageRow
from services.ingest.wire.times import time_to_pb
from steelyard.ingest.v1 import usage_service_pb2


def usage_rows_to_pb(rows: Sequence[UsageRow], times: Sequence[Period]) -> list[usage_service_pb2.UsageRow]:
    # A row ends where the next one begins, and many groups share one time: each instant is made once.
    used = [times[index] for index in {row.index for row in rows}]
    instants = {at: time_to_pb(at) for at in {edge for time in used for edge in (time.start, time.end)}}
    return [
        usage_service_pb2.UsageRow(
            start_time=instants[times[row.index].start],
            end_time=instants[times[row.index].end],
            customer_id=row.customer_id,
            dimensions=row.dimensions,
            value=plain(row.value),
            event_count=row.event_count,
            rank=row.rank,
            others=row.others,
        )
        for row in rows
    ]
