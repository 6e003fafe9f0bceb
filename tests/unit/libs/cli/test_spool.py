"""steelyard spool: looks into a file without changing it, and says why it does not become empty."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from libs.cli.main import app
from steelyard.spool import Spool, SpoolOptions, outgoing
from steelyard.spool.file import SpoolFile

NOBODY_LISTENS = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STEELYARD_HOME", str(tmp_path / "nothing-here"))
    monkeypatch.setenv("STEELYARD_API_KEY", "sy_1_x")
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("INGEST", "QUERY", "RATING", "BILLING", "PAYMENTS"):
        monkeypatch.setenv(f"STEELYARD_{name}_TARGET", NOBODY_LISTENS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A spool of three events; the batch of two of them was refused."""
    path = tmp_path / "usage.spool"
    with Spool(path) as spool:
        for count in (2, 1):
            for _ in range(count):
                spool.record("call", "c1")
            spool.flush()
    file = SpoolFile(path)
    assert outgoing.set_aside(file, [1], "events: too many [\x1b[31mTOO_MANY]", 1_000_000)
    file.close()
    return path


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["spool", *arguments])
    return done.exit_code, done.stdout, done.stderr


class TestStatus:
    def test_shows_depth_age_and_dead_letters(self, path: Path) -> None:
        code, out, err = run("status", str(path))
        lines = {line.split()[0]: line.split()[1:3] for line in out.splitlines()[1:5]}
        assert (code, err) == (0, "")
        assert lines == {"pending": ["1", "1"], "sent": ["0", "0"], "parked": ["0", "0"], "dead": ["1", "2"]}
        assert "0 recorded, 0 resent" in out
        assert r"events: too many [\x1b[31mTOO_MANY]" in out

    def test_is_the_same_for_programs(self, path: Path) -> None:
        code, out, _ = run("status", str(path), "--output", "json")
        found = json.loads(out)
        assert (code, found["pending"]["events"], found["dead"]["events"], found["dropped"]) == (0, 1, 2, 0)
        assert [item["events"] for item in found["dead_letters"]] == [2]
        assert found["oldest_age_s"] >= 0

    def test_changes_nothing(self, path: Path) -> None:
        before = path.read_bytes()
        run("status", str(path))
        assert path.read_bytes() == before

    def test_of_a_file_that_is_none(self, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.write_bytes(b"no spool" * 1_000)
        code, _, err = run("status", str(other))
        assert (code, "not a database" in err) == (5, True)
        code, _, err = run("status", str(tmp_path / "absent"))
        assert (code, "does not exist" in err) == (2, True)
        assert not (tmp_path / "absent").exists()


class TestDrain:
    def test_says_who_does_not_answer_and_leaves_everything(self, path: Path) -> None:
        code, out, err = run("drain", str(path), "--timeout-s", "1")
        assert (code, "0 events are recorded" in out, NOBODY_LISTENS in err) == (3, True, True)
        with Spool(path, options=SpoolOptions()) as spool:
            assert (spool.stats().pending.events, spool.stats().dead.events) == (1, 2)

    def test_takes_up_what_was_refused_if_asked_to(self, path: Path) -> None:
        _, out, err = run("drain", str(path), "--timeout-s", "0.1", "--retry-refused", "--output", "json")
        found = json.loads(out)
        assert (found["drained"], found["pending"]["events"], found["dead"]["events"]) == (False, 3, 0)
        assert err.startswith("3 events are to be recorded")

    def test_needs_a_key(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("STEELYARD_API_KEY")
        assert run("drain", str(path))[0] == 2
