"""Processes that are killed, fork, and share a file: what was called spooled is there, and is delivered."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from steelyard.spool import Spool, SpoolOptions
from tests.component.libs.sdk.spool.server import FakeServer, serving
from tests.support.spool_file import events_in, totals_agree

HERE = Path(__file__).parent
ROOT = HERE.parents[4]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "libs" / "sdk"), str(ROOT)])}


def start(program: str, *arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(HERE / program), *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE)


def kill_after(process: subprocess.Popen[bytes], lines: int) -> int:
    """Let a producer print so many lines, kill it, and return the last number it printed: so many events are safe."""
    assert process.stdout is not None
    for _ in range(lines):
        assert process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read()
    process.wait(10)
    process.stdout.close()
    numbers = rest[: rest.rfind(b"\n") + 1].split()
    return int(numbers[-1]) if numbers else lines


def assert_sound(path: Path) -> None:
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        connection.close()
    assert totals_agree(path)


def as_written(prefix: str, count: int) -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]


class TestKilled:
    @pytest.mark.parametrize("how", ["flush", "durable"])
    def test_a_producer_loses_nothing_that_it_was_told_is_spooled(self, tmp_path: Path, how: str) -> None:
        path, chance = tmp_path / "usage.spool", random.Random(how)
        safe: dict[str, int] = {}
        for turn in range(5):
            process = start("producer.py", path, f"p{turn}", how)
            safe[f"p{turn}"] = kill_after(process, chance.randrange(20, 200))
            assert_sound(path)
        found = events_in(path)
        for prefix, count in safe.items():
            mine = [event_id for event_id in found if event_id.startswith(f"{prefix}-")]
            assert mine[:count] == as_written(prefix, count)
            assert mine == as_written(prefix, len(mine))  # What comes after may be there or not, but has no gap.
        assert sum(safe.values()) > 100

        server = FakeServer()
        with serving(server) as endpoints, Spool(path, api_key="sy_key", endpoints=endpoints) as spool:
            assert spool.drain(60)
        assert sorted(server.deliveries) == sorted(found)

    def test_several_producers_at_once(self, tmp_path: Path) -> None:
        path = tmp_path / "usage.spool"
        processes = {f"p{turn}": start("producer.py", path, f"p{turn}", "flush") for turn in range(3)}
        safe = {prefix: kill_after(process, 40) for prefix, process in processes.items()}
        assert_sound(path)
        found = events_in(path)
        for prefix, count in safe.items():
            assert [event_id for event_id in found if event_id.startswith(f"{prefix}-")][:count] == as_written(
                prefix, count
            )

    def test_what_a_killed_sender_had_taken_is_sent_when_its_lease_ends(self, tmp_path: Path) -> None:
        path, server = tmp_path / "usage.spool", FakeServer()
        with Spool(path) as spool:
            spool.record("call", "c1", event_id="e0")
        taken = (
            "import sys; from steelyard.spool import outgoing; from steelyard.spool.file import SpoolFile; import time"
        )
        work = "f = SpoolFile(sys.argv[1]); print(len(outgoing.take_pending(f, time.time_ns() // 1000000, 3000)))"
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                f"{taken}; {work}; sys.stdout.flush(); import os; os.kill(os.getpid(), 9)",
                str(path),
            ],
            env=ENVIRONMENT,
            capture_output=True,
            check=False,
        )
        assert done.stdout == b"1\n"
        options = SpoolOptions(lease_s=3, call_timeout_s=2)
        with serving(server) as endpoints, Spool(path, api_key="k", endpoints=endpoints, options=options) as spool:
            assert not spool.drain(0.5)
            assert spool.drain(30)
        assert server.deliveries == ["e0"]


class TestForks:
    def test_parent_and_children_record_and_send(self, tmp_path: Path) -> None:
        path, server = tmp_path / "usage.spool", FakeServer()
        children = 8
        with serving(server) as endpoints:
            program = start("forking.py", path, endpoints.ingest, endpoints.query, children)
            assert program.wait(110) == 0
            assert program.stdout is not None
            program.stdout.close()
        assert_sound(path)
        assert events_in(path) == []
        delivered = set(server.deliveries)
        wanted = {event_id for name in range(children) for event_id in as_written(f"child{name}", 200)}
        assert wanted <= delivered
        parents = sorted_numbers(delivered - wanted)
        assert parents == list(range(len(parents)))
        assert parents

    def test_a_child_does_not_write_what_its_parent_had_in_memory(self, tmp_path: Path) -> None:
        path = tmp_path / "usage.spool"
        spool = Spool(path, options=SpoolOptions(commit_every_s=0.5))
        spool.record("call", "c1", event_id="parents")
        pid = os.fork()
        if pid == 0:
            try:
                spool.record("call", "c1", event_id="childs")
                spool.close()
            finally:
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        spool.close()
        assert sorted(events_in(path)) == ["childs", "parents"]


def sorted_numbers(ids: set[str]) -> Sequence[int]:
    return sorted(int(event_id.removeprefix("parent-")) for event_id in ids)


class TestTheEnd:
    def test_a_program_that_simply_ends_has_written_everything(self, tmp_path: Path) -> None:
        path = tmp_path / "usage.spool"
        work = (
            "import sys; from steelyard.spool import Spool; s = Spool(sys.argv[1]); s.record('call', 'c', event_id='e')"
        )
        done = subprocess.run([sys.executable, "-c", work, str(path)], env=ENVIRONMENT, check=False, timeout=60)
        assert done.returncode == 0
        assert events_in(path) == ["e"]
