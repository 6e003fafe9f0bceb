"""Every limit one below, at and one above, by the functions of the door; and docs/limits.md says what the code does."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from libs.errors import Violation
from services.ingest.domain.door import DoorPolicy, door_problems, time_problems, to_ns
from services.ingest.domain.measuring import measure
from services.ingest.domain.meter import Aggregation, Meter, meter_violations
from services.ingest.domain.usage_batch import UsageColumns
from services.ingest.wire.meters import meter_from_pb
from steelyard.ingest.v1 import usage_event_pb2
from tests.support.limits import EVENT_EDGES, METER_EDGES, METERED_TYPE, EventEdge, EventParts, MeterEdge, documented

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
DOCUMENT = Path(__file__).resolve().parents[4] / "docs" / "limits.md"
METERS = [Meter("m", "", METERED_TYPE, Aggregation.SUM, "amount")]


def problem_of(parts: EventParts) -> tuple[str, str] | None:
    texts = {"event_id": "1", "source": "gateway", "event_type": "other", "customer_id": "cust-01"} | dict(parts.texts)
    events = UsageColumns(
        [texts["event_id"]],
        [texts["source"]],
        [texts["event_type"]],
        [texts["customer_id"]],
        [to_ns(NOW) + parts.offset_ns],
        [dict(parts.properties)],
    )
    problems = door_problems(events, DoorPolicy(), NOW)
    found: Violation | None = (problems | measure(events, METERS, problems).problems).get(0)
    return None if found is None else (found.field, found.reason)


class TestEvents:
    @pytest.mark.parametrize("edge", EVENT_EDGES, ids=str)
    def test_pass_below_and_at_the_limit_and_not_above(self, edge: EventEdge) -> None:
        assert problem_of(edge.at(edge.limit - 1)) is None
        assert problem_of(edge.at(edge.limit)) is None
        assert problem_of(edge.at(edge.limit + 1)) == (edge.field, edge.reason)

    @pytest.mark.parametrize("field", ["event_id", "source", "event_type", "customer_id"])
    def test_have_texts_of_at_least_one_character(self, field: str) -> None:
        assert problem_of(EventParts({field: "1"})) is None
        assert problem_of(EventParts({field: ""})) == (field, "REQUIRED")

    def test_have_names_of_properties_of_at_least_one_character(self) -> None:
        assert problem_of(EventParts({}, {"k": ""})) is None
        assert problem_of(EventParts({}, {"": ""})) == ("properties.", "REQUIRED")

    @pytest.mark.parametrize(("nanos", "passes"), [(-1, False), (0, True), (999_999_999, True), (10**9, False)])
    def test_have_a_time_that_is_a_timestamp(self, nanos: int, passes: bool) -> None:
        events = [usage_event_pb2.UsageEvent(), usage_event_pb2.UsageEvent()]
        events[1].event_time.seconds, events[1].event_time.nanos = 1, nanos

        problems = time_problems(UsageColumns.from_messages(events))

        expected = {} if passes else {1: ("event_time", "NOT_AN_INSTANT")}
        assert {index: (found.field, found.reason) for index, found in problems.items()} == expected


class TestMeters:
    @pytest.mark.parametrize("edge", METER_EDGES, ids=str)
    def test_pass_below_and_at_the_limit_and_not_above(self, edge: MeterEdge) -> None:
        assert meter_violations(meter_from_pb(edge.at(edge.limit - 1))) == []
        assert meter_violations(meter_from_pb(edge.at(edge.limit))) == []
        above = meter_violations(meter_from_pb(edge.at(edge.limit + 1)))
        assert [(found.field, found.reason) for found in above] == [(edge.field, edge.reason)]


class TestDocument:
    def test_has_the_limits_of_the_code_in_their_order(self) -> None:
        rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)

        assert [row for row in rows if row[0] not in ("what", "---")] == documented()
