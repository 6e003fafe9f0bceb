"""Files of usage events: what they mean, and that nothing in them is lost in silence."""

from __future__ import annotations

import gzip
import itertools
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from libs.cli.event_file import EventFile, EventFileError, FileFormat, Reading
from libs.cli.event_rows import START
from steelyard import UsageEvent

HEADER = "event_id,event_type,customer_id,event_time,input_tokens,region"
ROW = "e1,llm.request,cust-1,2026-01-31T23:59:59Z,812,eu"
LINE = (
    '{"event_id": "e1", "event_type": "llm.request", "customer_id": "cust-1", '
    '"event_time": "2026-01-31T23:59:59Z", "properties": {"input_tokens": 812, "region": "eu"}}'
)
EVENT = UsageEvent(
    event_id="e1",
    event_type="llm.request",
    customer_id="cust-1",
    event_time=datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC),
    properties={"input_tokens": "812", "region": "eu"},
)


def read_events(path: Path, reading: Reading) -> Iterator[UsageEvent]:
    return (item.event for item in EventFile(path, reading).events())


def events_of(path: Path, content: str | bytes, event_type: str = "", **options: Any) -> list[UsageEvent]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_events(path, Reading(event_type, **options)))


def refusal_of(path: Path, content: str | bytes) -> str:
    """Return what is said about a file, without its directory."""
    with pytest.raises(EventFileError) as caught:
        events_of(path, content)
    return str(caught.value).removeprefix(f"{path.parent}/")


class TestWhatIsRead:
    @pytest.mark.parametrize("start", ["", "\ufeff"], ids=["plain", "bom"])
    @pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
    @pytest.mark.parametrize("last", [True, False], ids=["ends", "does-not-end"])
    def test_csv_and_jsonl_mean_the_same_however_lines_end(
        self, tmp_path: Path, start: str, end: str, last: bool
    ) -> None:
        tail = end if last else ""
        assert events_of(tmp_path / "a.csv", start + HEADER + end + ROW + tail) == [EVENT]
        assert events_of(tmp_path / "a.jsonl", start + LINE + end + end + LINE + tail) == [EVENT, EVENT]

    @pytest.mark.parametrize(
        ("name", "content"), [("A.CSV", f"{HEADER}\n{ROW}"), ("a.NDJSON", LINE), ("a.b.jsonl", LINE)]
    )
    def test_the_name_says_how_to_read_it(self, tmp_path: Path, name: str, content: str) -> None:
        assert events_of(tmp_path / name, content) == [EVENT]

    def test_further_columns_are_properties_and_empty_cells_are_left_out(self, tmp_path: Path) -> None:
        rows = 'customer_id,x,event_time,event_id,y z,source\nc,,2026-01-01T00:00:00Z,e1,"a, ""b""\nc",gw\n'
        [event] = events_of(tmp_path / "a.csv", rows, "call")
        assert (event.properties, event.event_type, event.source) == ({"y z": 'a, "b"\nc'}, "call", "gw")

    def test_the_type_of_the_file_wins_over_the_option(self, tmp_path: Path) -> None:
        assert events_of(tmp_path / "a.jsonl", LINE, "other") == [EVENT]

    @pytest.mark.parametrize(
        "number",
        ["123456789012345678901234567890.000000000000000001", "1e3", "1E+400", "1e999999999", "-0", "9" * 5000],
    )
    def test_numbers_stay_as_they_are_written(self, tmp_path: Path, number: str) -> None:
        [event] = events_of(tmp_path / "a.jsonl", LINE.replace("812", number))
        assert event.properties["input_tokens"] == number
        [event] = events_of(tmp_path / "a.csv", f"{HEADER}\n{ROW.replace('812', number)}")
        assert event.properties["input_tokens"] == number

    def test_an_offset_is_understood(self, tmp_path: Path) -> None:
        [event] = events_of(tmp_path / "a.csv", f"{HEADER}\n{ROW}".replace("23:59:59Z", "23:30:00.25+01:00"))
        assert event.event_time == datetime(2026, 1, 31, 22, 30, 0, 250_000, tzinfo=UTC)

    @pytest.mark.parametrize(("name", "content"), [("a.jsonl", ""), ("a.jsonl", "\n \n"), ("a.csv", HEADER)])
    def test_a_file_may_hold_no_event(self, tmp_path: Path, name: str, content: str) -> None:
        assert events_of(tmp_path / name, content) == []

    def test_is_read_while_it_is_written(self, tmp_path: Path) -> None:
        pipe, gone_on = tmp_path / "a.jsonl", threading.Event()
        os.mkfifo(pipe)

        def write() -> None:
            with pipe.open("w") as file:
                file.writelines(f"{LINE}\n" for _ in range(1000))
                file.flush()
                gone_on.wait(30)
                file.writelines(f"{LINE}\n" for _ in range(1000))

        writer = threading.Thread(target=write)
        writer.start()
        events = read_events(pipe, Reading())
        assert len(list(itertools.islice(events, 500))) == 500
        gone_on.set()
        assert len(list(events)) == 1500
        writer.join()

    def test_booleans_are_true_and_false(self, tmp_path: Path) -> None:
        [event] = events_of(tmp_path / "a.jsonl", LINE.replace("812", "true").replace('"eu"', "false"))
        assert event.properties == {"input_tokens": "true", "region": "false"}

    @pytest.mark.parametrize("digits", ["123456789", "1234567891", "12345678", "1234567"])
    def test_an_instant_is_kept_to_the_nanosecond(self, tmp_path: Path, digits: str) -> None:
        text = f"{HEADER}\n{ROW}".replace("59Z", f"59.{digits}Z")
        if len(digits) > 9:
            assert "is not an instant" in refusal_of(tmp_path / "a.csv", text)
        else:
            [event] = events_of(tmp_path / "a.csv", text)
            assert event.to_pb("").event_time.nanos == int(digits.ljust(9, "0"))

    @pytest.mark.parametrize(("name", "content"), [("a.csv.gz", f"{HEADER}\n{ROW}\n"), ("a.JSONL.GZ", LINE)])
    def test_gzip_is_read_as_what_it_holds(self, tmp_path: Path, name: str, content: str) -> None:
        whole = gzip.compress(content.encode())
        assert events_of(tmp_path / name, whole) == [EVENT]
        for broken in (whole[:-9], whole[:30] + b"xxx" + whole[33:], content.encode()):
            assert "not a whole gzip file" in refusal_of(tmp_path / name, broken)

    @pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.jsonl.gz"])
    def test_is_read_on_from_behind_every_event(self, tmp_path: Path, name: str) -> None:
        rows = [ROW.replace("e1", f"e{number}").replace("eu", '"\n\xe9u\u20ac"') for number in range(5)]
        lines = [LINE.replace("e1", f"e{number}").replace("eu", "\xe9u") for number in range(5)]
        text = "\ufeff" + ("\n".join([HEADER, *rows]) if "csv" in name else "\n\n".join(lines))
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
        items = list(EventFile(path, Reading()).events())
        assert len(items) == 5
        for index, mark in enumerate([START, *(item.end for item in items)]):
            assert list(EventFile(path, Reading()).events(mark)) == items[index:]

    def test_ids_may_come_from_content_and_line(self, tmp_path: Path) -> None:
        rows = "customer_id,event_type,event_time\nc,t,2026-01-31T23:59:59Z\nc,t,2026-01-31T23:59:59Z\n"
        one, two = events_of(tmp_path / "a.csv", rows, derive_ids=True)
        assert one.event_id != two.event_id
        assert events_of(tmp_path / "b.csv.gz", gzip.compress(rows.encode()), derive_ids=True) == [one, two]
        other = events_of(tmp_path / "a.csv", rows.replace("c,t", "d,t"), derive_ids=True)
        assert {event.event_id for event in other}.isdisjoint({one.event_id, two.event_id})
        assert events_of(tmp_path / "c.csv", f"{HEADER}\n{ROW}", derive_ids=True) == [EVENT]
        with pytest.raises(EventFileError, match="ids of their own"):
            events_of(tmp_path / "c.json", "", derive_ids=True)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("rows", "reason"),
        [
            ("", "1: no header"),
            ("\n\n", "1: no header"),
            (
                "event_id;customer_id\n",
                "1: no column event_id, customer_id, event_time; the columns are event_id;customer_id",
            ),
            (f"{HEADER},region\n{ROW},eu", "1: columns that are there twice: region"),
            (f"{HEADER},\n{ROW},", "1: column 7 has no name"),
            (f"{HEADER}\n{ROW}\n{ROW},x", "3: 7 cells, but the header has 6"),
            (f"{HEADER}\n\n{ROW}\ne2,llm", "4: 2 cells, but the header has 6"),
            (f'{HEADER}\n{ROW},"a\nb"\n', "2: 7 cells, but the header has 6"),
            (f'{HEADER}\n{ROW}\n"{ROW}', "3: unexpected end of data"),
            (f'{HEADER}\n"e1"x{ROW}', "2: ',' expected after '\"'"),
            (f"{HEADER}\n{ROW}\n,llm.request,cust-1,2026-01-31T23:59:59Z,1,", "3: event_id is missing"),
            (f"{HEADER}\ne1,,,2026-01-31T23:59:59Z,1,", "2: customer_id, event_type is missing"),
        ],
    )
    def test_csv_that_is_not_whole(self, tmp_path: Path, rows: str, reason: str) -> None:
        assert refusal_of(tmp_path / "a.csv", rows) == f"a.csv:{reason}"

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("{", "not JSON: Expecting property name enclosed in double quotes at column 2"),
            (f"{LINE} {LINE}", f"not JSON: Extra data at column {len(LINE) + 2}"),
            ("[]", "not an object; each line holds one event"),
            ("[" * 100_000, "too deeply nested"),
            (LINE.replace("812", "NaN"), "properties.input_tokens: NaN is no number of JSON"),
            (LINE.replace("812", "-Infinity"), "properties.input_tokens: -Infinity is no number of JSON"),
            (LINE.replace('"region"', '"input_tokens"'), "keys that are there twice: input_tokens"),
            (LINE.replace('"event_type"', '"event_id"'), "keys that are there twice: event_id"),
            (LINE.replace("properties", "tokens"), "unknown: tokens; what is measured goes into properties"),
            (LINE.replace('"e1"', "5"), "event_id must be text"),
            (LINE.replace('"e1"', '""'), "event_id is missing"),
            (LINE.replace('"e1"', "null"), "event_id is missing"),
            (LINE.replace("812", "null"), "properties.input_tokens: must be text, a number or a boolean, not null"),
            (LINE.replace("812", "[1]"), "properties.input_tokens: must be text, a number or a boolean, not nested"),
            (LINE.replace("properties", "specversion"), "a CloudEvent: say --format cloudevents"),
            (LINE.replace('{"input_tokens": 812, "region": "eu"}', '"x"'), "properties must be an object"),
            (LINE.replace('"eu"', r'"\ud800"'), "not UTF-8 text"),
            (LINE.replace("eu", "e" * 700_000), "an event of 700,070 bytes; 700,000 is the limit"),
            (" " * 2_000_000, "longer than 1,048,576 bytes"),
        ],
    )
    def test_json_that_is_no_event(self, tmp_path: Path, line: str, reason: str) -> None:
        assert refusal_of(tmp_path / "a.jsonl", f"{LINE}\n\n{line}\n{LINE}\n") == f"a.jsonl:3: {reason}"

    @pytest.mark.parametrize(
        "time",
        [
            "2026-01-31T23:59:59",
            "2026-01-31",
            "2026-01-31T23:59:60Z",
            "2026-02-30T00:00:00Z",
            "0001-01-01T00:00:00+01:00",
            "31.01.2026 12:00",
            "1769903999",
            "\N{FULLWIDTH DIGIT TWO}026-01-31T23:59:59Z",
        ],
    )
    def test_a_time_that_is_no_instant(self, tmp_path: Path, time: str) -> None:
        said = refusal_of(tmp_path / "a.csv", f"{HEADER}\n{ROW}\n{ROW}".replace("2026-01-31T23:59:59Z", time))
        assert said.startswith(f"a.csv:2: {time!r}")
        said = refusal_of(tmp_path / "a.jsonl", f"{LINE}\n{LINE.replace('2026-01-31T23:59:59Z', time)}")
        assert said.startswith(f"a.jsonl:2: {time!r}")

    @pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
    def test_bytes_that_are_not_utf_8(self, tmp_path: Path, name: str) -> None:
        good = f"{HEADER}\n{ROW}\n{ROW}" if name == "a.csv" else f"\n{LINE}\n{LINE}"
        assert refusal_of(tmp_path / name, good.encode().replace(b"eu", b"\xe9u")) == f"{name}:2: not UTF-8 text"

    @pytest.mark.parametrize("name", ["a.txt", "a", "a.txt.gz", ".csv"])
    def test_a_name_that_does_not_say_how_to_read_it(self, tmp_path: Path, name: str) -> None:
        said = refusal_of(tmp_path / name, ROW)
        assert said.startswith(f"{name}: the name must end in .csv, .jsonl, ")
        content = f"{HEADER}\n{ROW}".encode()
        content = gzip.compress(content) if name.endswith("gz") else content
        assert events_of(tmp_path / name, content, format=FileFormat.CSV) == [EVENT]

    def test_what_stands_before_the_bad_line_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        path.write_text(f"{LINE}\n{{\n")
        events = read_events(path, Reading())
        assert next(events) == EVENT
        with pytest.raises(EventFileError):
            next(events)

    def test_a_cell_without_end_is_not_read_to_the_end_of_the_file(self, tmp_path: Path) -> None:
        rows = f'{HEADER}\n"{ROW}\n' + f"{ROW}\n" * 10_000
        assert refusal_of(tmp_path / "a.csv", rows) == "a.csv:2: field larger than field limit (131072)"
