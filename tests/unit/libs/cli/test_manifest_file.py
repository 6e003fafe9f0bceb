"""Manifests in files: numbers exactly as written, and what is wrong named."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.cli.manifest_file import ManifestFileError, read_manifest

GOOD = """
source: api-gateway
start_time: 2026-01-01T00:00:00Z
end_time: 2026-02-01T00:00:00+00:00
lines:
  - {meter_id: tokens, event_count: 12, sum: 0.10000000000000000001}
  - {meter_id: calls, customer_id: cust-01, event_count: 3}
"""


def test_a_manifest_is_read_exactly(tmp_path: Path) -> None:
    file = tmp_path / "manifest.yaml"
    file.write_text(GOOD)

    manifest = read_manifest(file)

    assert (manifest.source, manifest.end_time.ToJsonString()) == ("api-gateway", "2026-02-01T00:00:00Z")
    assert [(line.meter_id, line.customer_id, line.event_count, line.sum) for line in manifest.lines] == [
        ("tokens", "", 12, "0.10000000000000000001"),
        ("calls", "cust-01", 3, ""),
    ]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("event_count: 12", "event_count: 1.5"),
        ("event_count: 12", "event_count: -1"),
        ("event_count: 12", "event_count: 9999999999999999999"),
        ("meter_id: tokens", "meter: tokens"),
        ("00:00:00Z", "00:00:00"),
        ("source: api-gateway", "source: [a]"),
        ("lines:", "rows:"),
    ],
    ids=lambda value: value,
)
def test_what_is_wrong_is_refused(tmp_path: Path, wrong: str, named: str) -> None:
    file = tmp_path / "manifest.yaml"
    file.write_text(GOOD.replace(wrong, named, 1))

    with pytest.raises(ManifestFileError):
        read_manifest(file)


@pytest.mark.parametrize("text", ["", "a: [", "- 1", GOOD + "---" + GOOD], ids=["empty", "broken", "list", "two"])
def test_one_manifest_is_asked_for(tmp_path: Path, text: str) -> None:
    file = tmp_path / "manifest.yaml"
    file.write_text(text)

    with pytest.raises(ManifestFileError):
        read_manifest(file)
