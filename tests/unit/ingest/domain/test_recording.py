"""The recorder's pure steps: what was measured, as it is stored, and the order in which keys are locked."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from libs.errors import Violation
from services.ingest.domain.measuring import measure
from services.ingest.domain.meter import Aggregation, Meter, PropertyFilter
from services.ingest.domain.recording import RecordingBatch, candidate_keys
from services.ingest.domain.usage_batch import UsageBatch, UsageColumns

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
TOKENS = Meter("tokens", "", "llm", Aggregation.SUM, "tokens")
LARGE = Meter("large", "", "llm", Aggregation.COUNT, filters=(PropertyFilter("model", "large"),))


def started(
    *events: tuple[str, dict[str, str]], tenant: str = "acme", source: str = "s", batch_id: int = 1
) -> RecordingBatch:
    count = len(events)
    columns = UsageColumns(
        [event_id for event_id, _ in events],
        [source] * count,
        ["llm"] * count,
        ["c"] * count,
        [1] * count,
        [properties for _, properties in events],
    )
    batch = UsageBatch(tenant, "epoch", batch_id, NOON, NOON, columns, (), count, 0, (), "")
    return RecordingBatch.start(batch, batch_id, [TOKENS, LARGE])


class TestMeasuredTexts:
    def test_hold_what_each_meter_measured_in_canonical_text(self) -> None:
        item = started(
            ("1", {"tokens": "1.50", "model": "large"}),
            ("2", {"tokens": "1e3"}),
            ("3", {"tokens": "-0"}),
        )

        assert [json.loads(text) for text in item.measured_texts()] == [
            {"tokens": "1.5", "large": "1"},
            {"tokens": "1000"},
            {"tokens": "0"},
        ]

    def test_of_a_unique_count_are_what_is_added_or_removed(self) -> None:
        users = Meter("users", "", "llm", Aggregation.UNIQUE_COUNT, "user", operation_property="op")
        item = started(("1", {"user": 'a"b'}), ("2", {"user": "+x", "op": "remove"}), ("3", {"user": "u"}))
        item.measurement = measure(item.batch.events, [users])

        assert [json.loads(text) for text in item.measured_texts()] == [
            {"users": '+a"b'},
            {"users": "-+x"},
            {"users": "+u"},
        ]

    def test_are_empty_where_nothing_was_measured(self) -> None:
        item = started(("1", {"tokens": "x"}))

        assert item.measurement.problems[0] == Violation(
            "properties.tokens", "NOT_A_NUMBER", "not a decimal number: 'x'"
        )
        assert item.measured_texts() == ["{}"]


class TestCandidateKeys:
    def test_are_ordered_by_key_and_in_stream_order_where_keys_are_equal(self) -> None:
        good = {"tokens": "1"}
        batches = [
            started(("b", good), ("a", good), tenant="zeta", batch_id=1),
            started(("b", good), ("a", {"tokens": "x"}), ("a", good), batch_id=2),
            started(("a", good), source="r", batch_id=3),
            started(("b", {"tokens": "2"}), batch_id=4),
        ]

        keys = candidate_keys(batches)

        found = zip(keys.slots, keys.ordinals, keys.sources, keys.event_ids, strict=True)
        assert list(found) == [
            (2, 0, "r", "a"),
            (1, 2, "s", "a"),
            (1, 0, "s", "b"),
            (3, 0, "s", "b"),
            (0, 1, "s", "a"),
            (0, 0, "s", "b"),
        ]
        assert keys.payload_hashes[2] != keys.payload_hashes[3]
        assert keys.payload_hashes[1] == batches[1].payload_hashes[2]
