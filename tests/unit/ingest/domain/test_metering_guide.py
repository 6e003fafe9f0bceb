"""The examples of docs/guides/metering.md are meters that can be made, and mean what the guide says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from libs.cli.main import app
from libs.cli.meter_files import parse_meters
from libs.cli.usage import Window
from libs.money import plain
from services.ingest.domain.aggregations import AggregationPeriod, EventColumns, evaluate
from services.ingest.domain.door import to_ns
from services.ingest.domain.expressions import compile_expression
from services.ingest.domain.measuring import measure
from services.ingest.domain.meter import Meter, meter_violations
from services.ingest.domain.meter_options import LevelUnit
from services.ingest.domain.units import is_known_unit
from services.ingest.domain.usage_batch import UsageColumns
from services.ingest.wire.meters import meter_from_pb

GUIDE = (Path(__file__).resolve().parents[4] / "docs" / "guides" / "metering.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


def meter_of(given: Mapping[str, Any]) -> Meter:
    """As `steelyard meters apply` reads it, and the server."""
    (message,) = parse_meters(yaml.safe_dump(given))
    return meter_from_pb(message)


DOCUMENTS = [
    part for block in BLOCKS if "expression: if" not in block for part in yaml.load_all(block, Loader=yaml.BaseLoader)
]
METERS = {given["meter_id"]: meter_of(given) for given in DOCUMENTS if "meter_id" in given}
FRAGMENTS = [given for given in DOCUMENTS if "meter_id" not in given]


COMMANDS = re.findall(r"^steelyard (usage .*?)(?: +#.*)?$", GUIDE, re.MULTILINE)


class TestQuestions:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_can_be_asked(self, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """They come as far as the connection."""
        asked: list[object] = []

        def ask(work: object) -> list[object]:
            asked.append(work)
            return []

        monkeypatch.setattr("libs.cli.usage.as_tenant", ask)

        result = CliRunner().invoke(app, shlex.split(command))

        assert result.exit_code == 0, result.output
        assert len(asked) == 1

    def test_every_kind_of_row_is_explained(self) -> None:
        (table,) = re.findall(r"^\| rows of \|.*?(?=\n\n)", GUIDE, re.MULTILINE | re.DOTALL)
        assert set(re.findall(r"`([^`]+)`", table)) == {window.value for window in Window}
        assert len(COMMANDS) > 4


class TestExamples:
    @pytest.mark.parametrize("meter_id", sorted(METERS))
    def test_can_be_made(self, meter_id: str) -> None:
        assert meter_violations(METERS[meter_id]) == []

    def test_fragments_fit_into_meters(self) -> None:
        assert len(FRAGMENTS) == 3
        for fragment in FRAGMENTS:
            whole = {"meter_id": "m", "event_type": "t", "aggregation": "sum", "expression": "v"} | fragment
            assert meter_violations(meter_of(whole)) == []

    def test_expressions_compile(self) -> None:
        (block,) = [block for block in BLOCKS if "expression: if" in block]
        texts = re.findall(r"^expression: (.*?)(?: +#.*)?$", block, re.MULTILINE)

        assert len(texts) == 3
        for text in texts:
            assert compile_expression(text).text == text

    def test_units_of_the_table_are_known(self) -> None:
        (rows,) = re.findall(r"^\| time \|.*?(?=\n\n)", GUIDE, re.MULTILINE | re.DOTALL)
        names = re.findall(r"`([^`]+)`", rows)

        assert len(names) > 40
        assert [name for name in names if not is_known_unit(name)] == ["thousand", "million", "billion"]


JUNE = AggregationPeriod(to_ns(datetime(2026, 6, 1, tzinfo=UTC)), to_ns(datetime(2026, 7, 1, tzinfo=UTC)))


def quantity(meter: Meter, *events: tuple[str, dict[str, str]]) -> str:
    """Of events (day and hour of June, properties); what lies before June is carried over."""
    count = len(events)
    times = [to_ns(datetime.fromisoformat(f"2026-{at}:00:00+00:00")) for at, _ in events]
    ids = [str(number) for number in range(count)]
    types, same = [meter.event_type] * count, ["x"] * count
    measurement = measure(UsageColumns(ids, same, types, same, times, [row for _, row in events]), [meter])
    assert measurement.problems == {}
    (reading,) = measurement.readings
    columns = EventColumns(times, reading.rows, reading.values, reading.texts, reading.operations)
    carried, inside = columns.split(JUNE.start_ns, JUNE.end_ns)
    found = evaluate(meter, inside, JUNE, carried=carried)
    assert found is not None
    return plain(found)


class TestMeanings:
    def test_seat_days(self) -> None:
        meter = METERS["seat-days"]

        assert quantity(meter, ("05-20T00", {"delta": "2"}), ("06-16T12", {"delta": "-1"})) == "45.5"

    def test_seats_by_calendar_day(self) -> None:
        meter = METERS["seats"]
        events = [
            ("05-20T00", {"user": "a"}),
            ("06-10T15", {"user": "a", "action": "remove"}),
            ("06-21T23", {"user": "b"}),
        ]

        assert quantity(meter, *events) == "0.66667"

    def test_gb_hours(self) -> None:
        meter = METERS["storage"]
        events = [("06-01T00", {"size": "1500", "unit": "MB"}), ("06-01T10", {"size": "-1.5", "unit": "GB"})]

        assert quantity(meter, *events) == "15"

    def test_levels_of_the_table(self) -> None:
        level = replace(METERS["seat-days"], carry_over=False)
        events = [("06-01T00", {"delta": "2"}), ("06-16T00", {"delta": "-2"})]

        found = {unit.value: quantity(replace(level, level_unit=unit), *events) for unit in LevelUnit}

        assert found == {"period": "1", "day": "30", "hour": "720", "minute": "43200", "second": "2592000"}

    def test_active_users(self) -> None:
        events = [(f"06-{day:02}T12", {"user": user}) for day in range(1, 31) for user in ("a", "b")]
        events += [("06-05T13", {"user": "c"}), ("06-05T14", {"user": "c"}), ("06-06T13", {"user": "c"})]

        assert quantity(METERS["mau"], *events) == "3"
        # June in UTC touches 31 days of New York, the first of them without an event.
        assert quantity(METERS["average-dau"], *events) == "2"

    def test_compute_and_thousand_tokens(self) -> None:
        jobs = [
            ("06-01T00", {"duration_ms": "61001", "machine": "gpu"}),
            ("06-01T01", {"duration_ms": "5", "machine": "s"}),
        ]

        assert quantity(METERS["compute"], *jobs) == "680"
        assert quantity(METERS["thousand-tokens"], ("06-01T00", {"input_tokens": "1000", "output_tokens": "1"})) == "2"

    def test_connection_hours(self) -> None:
        samples = [(f"06-01T{hour:02}", {"open_connections": str(count)}) for hour, count in ((1, 5), (1, 9), (2, 4))]

        assert quantity(METERS["connection-hours"], *samples) == "13"
