"""The parts of the fault driver by themselves: the history, the switches, crash points, what a campaign counts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from libs.embedded.service_processes import PROJECT
from tests.faults.campaign import Totals, merged
from tests.faults.driver.crash_places import CRASHES
from tests.faults.driver.faults import FAULTS
from tests.faults.driver.history import FAIL, OK, UNKNOWN, History, operations, read
from tests.faults.driver.workload import batches
from tests.faults.inside.crash_points import POINTS, parsed
from tests.faults.inside.switches import Setting, Switches


class TestHistory:
    def test_gives_back_what_was_written(self, tmp_path: Path) -> None:
        with History(tmp_path / "h.jsonl") as history:
            first = history.invoke("ingest", tenant="a")
            second = history.invoke("ingest", tenant="b")
            history.note("fault", fault="kill")
            history.end(second, FAIL, "ingest", error="refused")
            history.end(first, OK, "ingest", verdicts=["QUEUED"])
            history.invoke("ingest", tenant="c")
        found = list(operations(read(history.path), "ingest"))
        assert [operation.invoke.data["tenant"] for operation in found] == ["a", "b", "c"]
        assert [operation.phase for operation in found] == [OK, FAIL, UNKNOWN]


class TestSwitches:
    def test_follow_the_environment_until_there_is_a_file(self, tmp_path: Path) -> None:
        file = tmp_path / "p.json"
        switches = Switches.from_env({"CRASH_AT": "before_commit", "FAULT_CONTROL": str(file)})
        assert switches.current() == Setting("before_commit")
        file.write_text(Setting(chaos={"duplicate": 0.5}, bug="x").to_json())
        assert switches.current() == Setting("", {"duplicate": 0.5}, "x")
        assert switches.current() is switches.current()
        file.unlink()
        assert switches.current() == Setting("before_commit")

    def test_a_crash_leaves_evidence_and_disarms_the_next_life(self, tmp_path: Path) -> None:
        file = tmp_path / "p.json"
        file.write_text(Setting("after_commit:2", bug="x").to_json())
        switches = Switches.from_env({"FAULT_CONTROL": str(file)})
        switches.current()
        switches.crashed_at("after_commit:2")
        assert "after_commit:2" in (tmp_path / "p.fired").read_text()
        assert Switches.from_env({"FAULT_CONTROL": str(file)}).current() == Setting("", {}, "x")


class TestCrashPoints:
    def test_are_read(self) -> None:
        assert parsed("keeper/after_commit:3") == ("keeper", "after_commit", 3)
        assert parsed("before_publish") == ("", "before_publish", 1)
        assert parsed("") == ("", "", 1)

    def test_must_exist(self) -> None:
        with pytest.raises(ValueError, match="no crash point 'after_lunch'"):
            parsed("after_lunch")

    def test_of_the_faults_exist(self) -> None:
        used = {point for parts in CRASHES.values() for points in parts.values() for point in points}
        assert used == set(POINTS)


class TestLauncher:
    def test_runs_the_services_own_main(self) -> None:
        bare = {name: value for name, value in os.environ.items() if not name.endswith("DATABASE_URL")}
        bare.pop("NATS_URL", None)
        command = [sys.executable, "-m", "tests.faults.launch", "ingest", "--role", "record"]
        done = subprocess.run(command, cwd=PROJECT, env=bare, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode != 0
        assert "INGEST_WORKER_DATABASE_URL is missing" in done.stderr


class TestWorkload:
    def test_is_the_same_for_the_same_seed(self) -> None:
        assert batches(3, "0", 20) == batches(3, "0", 20)
        assert batches(3, "0", 20) != batches(4, "0", 20)

    def test_has_everything_that_goes_wrong(self) -> None:
        sent = [event for batch in batches(1, "0", 40) for event in batch.events]
        by_id: dict[str, set[str]] = {}
        for event in sent:
            by_id.setdefault(event.event_id, set()).add(event.input_tokens)
        assert any(event.refused for event in sent)
        assert any(len(payloads) > 1 for payloads in by_id.values())
        assert len(sent) > len(by_id)


class TestTotals:
    def test_add_up_over_campaigns(self) -> None:
        one = Totals(slowest_s=2.0, took_s=10)
        one.runs["crash"], one.happened["restarts"], one.hits["crash billing at fact relay/after_commit"] = 2, 5, 1
        two = Totals(failures=["seed 1"], slowest_s=1.0, took_s=5)
        two.runs["crash"], two.happened["restarts"] = 1, 1
        both = merged([one.to_json(), two.to_json()])
        assert (both.runs["crash"], both.happened["restarts"], both.slowest_s, both.took_s) == (3, 6, 2.0, 15)
        assert both.failures == ["seed 1"]
        assert "3 runs in 15 s, 1 with violations" in both.table()

    def test_are_void_if_nothing_interesting_happened(self) -> None:
        totals = Totals()
        totals.runs["none"], totals.happened["redelivered"] = 50, 40
        assert totals.below_the_floor({"redelivered": 80, "restarts": 1}) == ["restarts: 0 instead of at least 1"]
        assert totals.below_the_floor({"redelivered": 82}) == ["redelivered: 40 instead of at least 41"]

    def test_every_fault_has_a_name(self) -> None:
        assert all(fault.name == name for name, fault in FAULTS.items())
