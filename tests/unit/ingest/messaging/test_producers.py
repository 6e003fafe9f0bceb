"""How messages of producers share batches."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from libs.messaging import Delivery
from services.ingest.domain.usage_batch import MAX_BATCH_BYTES
from services.ingest.messaging.producers import _portions, _Read
from services.ingest.wire.cloud_events import MappedBatch
from steelyard.ingest.v1 import usage_event_pb2

DELIVERY = Delivery("producers.acme.events", b"", {}, "", "PRODUCERS", 1, 1, datetime(2026, 3, 1, tzinfo=UTC))


def read(count: int, size_bytes: int) -> _Read:
    return _Read(DELIVERY, MappedBatch([usage_event_pb2.UsageEvent()] * count, {}, size_bytes))


class TestPortions:
    @pytest.mark.parametrize(
        ("messages", "shares"),
        [
            ([(1, 10)] * 3, [3]),
            ([(600, 10), (400, 10), (1, 10)], [2, 1]),
            ([(600, 10), (401, 10), (599, 10)], [1, 2]),
            ([(1, MAX_BATCH_BYTES), (1, 1), (1, MAX_BATCH_BYTES - 1), (1, 1)], [1, 2, 1]),
            ([(1_000, 1)] * 2, [1, 1]),
        ],
        ids=["few", "full", "too many events", "too many bytes", "whole batches"],
    )
    def test_are_as_large_as_a_batch_may_be(self, messages: list[tuple[int, int]], shares: list[int]) -> None:
        portions = _portions([read(count, size_bytes) for count, size_bytes in messages])

        assert [len(portion) for portion in portions] == shares
