"""Files of CloudEvents of any size: read piece by piece, from any place on."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from libs.cli.event_file import EventFile, EventFileError, FileFormat, Reading
from libs.cli.event_rows import START
from steelyard.cloudevents.v1 import cloud_event_pb2

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "e1",
    "source": "/gateway",
    "type": "llm.request",
    "subject": "cust-1",
    "time": "2026-01-31T23:59:59.123456789Z",
    "data": {"input": 812, "note": "é€, ]}"},
}


def some(count: int) -> list[dict[str, Any]]:
    return [{**EVENT, "id": f"e{number}"} for number in range(count)]


def ids_of(path: Path, content: str | bytes, **options: Any) -> list[str]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [item.event.event_id for item in EventFile(path, Reading(**options)).events()]


def refusal_of(path: Path, content: str | bytes) -> str:
    with pytest.raises(EventFileError) as refused:
        ids_of(path, content)
    return str(refused.value).removeprefix(f"{path.parent}/")


def batch_of(count: int) -> bytes:
    batch = cloud_event_pb2.CloudEventBatch()
    for event in some(count):
        message = batch.events.add(id=event["id"], source="/g", spec_version="1.0", type="t")
        message.text_data = '{"input": 1.10}'
        message.attributes["subject"].ce_string = "c"
        message.attributes["time"].ce_timestamp.seconds = 1_769_903_999
    return batch.SerializeToString()


class TestJson:
    @pytest.mark.parametrize("start", ["", "\ufeff", " \n"], ids=["plain", "bom", "blank"])
    def test_is_an_event_an_array_or_lines(self, tmp_path: Path, start: str) -> None:
        one, three = json.dumps(EVENT), ["e0", "e1", "e2"]
        assert ids_of(tmp_path / "a.json", start + one) == ["e1"]
        assert ids_of(tmp_path / "a.json", start + json.dumps(some(3), indent=2) + "\n") == three
        assert ids_of(tmp_path / "a.json", start + "\n".join(map(json.dumps, some(3)))) == three
        assert ids_of(tmp_path / "a.json.gz", gzip.compress((start + json.dumps(some(3))).encode())) == three
        lines = "\r\n".join(map(json.dumps, some(3)))
        assert ids_of(tmp_path / "a.jsonl", start + lines, format=FileFormat.CLOUDEVENTS) == three

    @pytest.mark.parametrize("content", ["", " \n", "[]", "[ \n ]\n"], ids=["empty", "blank", "array", "blank-array"])
    def test_may_hold_no_event(self, tmp_path: Path, content: str) -> None:
        assert ids_of(tmp_path / "a.json", content) == []

    def test_keeps_numbers_and_nanoseconds(self, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        path.write_text(json.dumps([EVENT]).replace("812", "1.10e0"))
        [item] = EventFile(path, Reading()).events()
        message = item.event.to_pb("")
        assert (message.properties["input"], message.event_time.nanos) == ("1.10e0", 123_456_789)

    @pytest.mark.parametrize("indent", [None, 1], ids=["lines", "array"])
    def test_of_any_size_is_read_in_pieces_and_on_from_anywhere(self, tmp_path: Path, indent: int | None) -> None:
        path, many = tmp_path / "a.json", some(40)
        for event in many:
            event["data"] = {"text": "é" * 100_000}
        text = (
            "\n".join(map(json.dumps, many)) if indent is None else json.dumps(many, ensure_ascii=False, indent=indent)
        )
        path.write_text(text)
        file = EventFile(path, Reading())
        events = file.events()
        first = next(events)
        assert file.reached < path.stat().st_size
        marks = [START, first.end, *(item.end for item in events)]
        assert len(marks) == 41
        for index in (0, 1, 20, 39, 40):
            rest = [item.event.event_id for item in EventFile(path, Reading()).events(marks[index])]
            assert rest == [f"e{number}" for number in range(index, 40)]

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ("[", "1: the array has no end"),
            (json.dumps(some(2))[:-1], "1: the array has no end"),
            (json.dumps(some(2)).replace("}, {", "} {"), "1: not JSON: Expecting ',' or ']' between events"),
            (f"[{json.dumps(EVENT)},]", "1: not JSON: Expecting value"),
            (f"[{json.dumps(EVENT)}]\n5", "2: not JSON: something stands behind the array"),
            (f"{json.dumps(EVENT)}\n{{", "2: not JSON: Expecting property name enclosed in double quotes"),
            ("[\n" + "[" * 100_000, "2: too deeply nested"),
            ("[5]", "1: a CloudEvent is a JSON object"),
            (json.dumps([EVENT, {**EVENT, "time": None}], indent=1), "14: time: must be set: it is the event_time"),
            (json.dumps(EVENT).encode().replace(b"cust", b"\xff"), "1: subject: must not contain lone surrogates"),
            ('{"event_id": "e1"}', "1: specversion: must be 1.0"),
            (
                json.dumps({**EVENT, "id": "x" * 699_990}),
                "1: an event of 700,071 bytes; 700,000 is the limit",
            ),
        ],
        ids=range(12),
    )
    def test_that_is_none(self, tmp_path: Path, content: str | bytes, reason: str) -> None:
        assert refusal_of(tmp_path / "a.json", content) == f"a.json:{reason}"

    def test_a_value_without_end_is_not_read_to_the_end_of_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        path.write_text('["' + "x" * 20_000_000)
        file = EventFile(path, Reading())
        with pytest.raises(EventFileError, match="or longer than 1,048,576 characters"):
            next(iter(file.events()))


class TestProtobuf:
    def test_is_a_batch_read_on_from_anywhere(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pb"
        path.write_bytes(batch_of(5))
        items = list(EventFile(path, Reading()).events())
        assert [item.event.event_id for item in items] == ["e0", "e1", "e2", "e3", "e4"]
        assert items[0].event.properties == {"input": "1.10"}
        for index, item in enumerate(items, start=1):
            assert list(EventFile(path, Reading()).events(item.end)) == items[index:]

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"\x12\x00", "1: not a CloudEventBatch; a single CloudEvent is a batch only inside of one"),
            (b"\x0a", "1: the file ends within an event"),
            (b"\x0a\x05ab", "1: the file ends within an event"),
            (b"\x0a\xff\xff\xff\x7f", "1: not a CloudEventBatch, or an event of more than 1,048,576 bytes"),
            (b"\x0a\xff\xff\xff\xff\xff", "1: not a CloudEventBatch"),
            (batch_of(1) + b"\x0a\x01\xff", "2: not a CloudEvent"),
            (batch_of(1) + b"\x0a\x00", "2: specversion: must be 1.0"),
        ],
        ids=range(7),
    )
    def test_that_is_none(self, tmp_path: Path, content: bytes, reason: str) -> None:
        assert refusal_of(tmp_path / "a.pb", content) == f"a.pb:{reason}"


class TestStandardInput:
    def test_holds_json_lines_unless_it_is_said(self) -> None:
        assert EventFile(Path("-"), Reading()).format is FileFormat.JSONL
        assert EventFile(Path("-"), Reading(format=FileFormat.CSV)).format is FileFormat.CSV

    def test_has_no_ids_to_derive_and_is_no_parquet(self) -> None:
        with pytest.raises(EventFileError, match="whole content"):
            EventFile(Path("-"), Reading(derive_ids=True))
        with pytest.raises(EventFileError, match="has to be a file"):
            list(EventFile(Path("-"), Reading(format=FileFormat.PARQUET)).events())
