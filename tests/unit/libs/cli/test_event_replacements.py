"""Files of replacements: what each line means, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.cli.event_file import EventFileError
from libs.cli.event_replacements import read_replacements

HEADER = "replaces,customer_id,event_time,event_type,tokens"
LINE = '"customer_id": "c", "event_time": "2026-01-01T00:00:00.123456789Z", "event_type": "llm"'


def read(folder: Path, name: str, content: str) -> list[tuple[str, str, str, str, dict[str, str]]]:
    """Source and id of each original, then source, id and properties of what takes its place."""
    file = folder / name
    file.write_text(content)
    return [
        (
            item.original.source,
            item.original.event_id,
            item.event.source,
            item.event.event_id,
            dict(item.event.properties),
        )
        for _, item in read_replacements(file, "", "cli")
    ]


class TestFiles:
    def test_of_csv(self, tmp_path: Path) -> None:
        content = f"{HEADER},event_id,source,replaces_source\ne1,c,2026-01-01T00:00:00Z,llm,5,,,\n"
        content += "e2,c,2026-01-01T00:00:00Z,llm,6,e2b,app,gateway\n"
        assert read(tmp_path, "right.csv", content) == [
            ("cli", "e1", "", "", {"tokens": "5"}),
            ("gateway", "e2", "app", "e2b", {"tokens": "6"}),
        ]

    def test_of_json_lines(self, tmp_path: Path) -> None:
        content = f'{{"replaces": "e1", {LINE}, "source": "app", "properties": {{"tokens": 1.10}}}}\n'
        assert read(tmp_path, "right.jsonl", content) == [("app", "e1", "app", "", {"tokens": "1.10"})]
        [(line, item)] = read_replacements(tmp_path / "right.jsonl", "", "cli")
        assert (line, item.event.event_time.nanos, item.event.event_type) == (1, 123_456_789, "llm")

    @pytest.mark.parametrize(
        ("name", "content", "reason"),
        [
            ("a.csv", "customer_id,event_time\n", "no column replaces"),
            ("a.csv", f"{HEADER}\n,c,2026-01-01T00:00:00Z,llm,5\n", "replaces is missing"),
            ("a.csv", f"{HEADER}\ne1,,2026-01-01T00:00:00Z,llm,5\n", "customer_id is missing"),
            ("a.jsonl", f"{{{LINE}}}\n", "replaces is missing"),
            ("a.jsonl", f'{{"replaces": 1, {LINE}}}\n', "replaces must be text"),
            ("a.jsonl", f'{{"replaces": "1", "tokens": 1, {LINE}}}\n', "unknown: tokens"),
        ],
    )
    def test_that_are_wrong_name_the_line(self, tmp_path: Path, name: str, content: str, reason: str) -> None:
        with pytest.raises(EventFileError) as caught:
            read(tmp_path, name, content)
        assert f"{name}:" in str(caught.value)
        assert reason in str(caught.value)
