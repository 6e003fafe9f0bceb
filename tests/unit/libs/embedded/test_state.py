"""The state of a stack on disk: one owner at a time, and only its own processes are ever stopped."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from libs.embedded.errors import EmbeddedError
from libs.embedded.state import Endpoints, ProcessRecord, StackState, reap

ENDPOINTS = Endpoints("a:1", "a:2", "a:3", "a:4", "a:5", nats_url="nats://a:6", operator_key="secret")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    # Started in the background of a script, tests inherit that SIGINT is ignored.
    process = subprocess.Popen(["sleep", "60"], preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    yield process
    process.kill()
    process.wait()


class TestStackState:
    def test_lets_others_find_the_services_while_the_owner_lives(self, tmp_path: Path) -> None:
        owner, other = StackState(tmp_path), StackState(tmp_path)
        assert other.endpoints() is None
        owner.acquire()
        assert other.endpoints() is None
        owner.publish(ENDPOINTS)
        assert other.endpoints() == ENDPOINTS
        assert (tmp_path / "state.json").stat().st_mode & 0o077 == 0
        owner.release()
        assert other.endpoints() is None

    def test_has_one_owner_at_a_time(self, tmp_path: Path) -> None:
        first, second = StackState(tmp_path), StackState(tmp_path)
        first.acquire()
        with pytest.raises(EmbeddedError, match="runs already"):
            second.acquire()
        first.release()
        second.acquire()
        second.release()

    def test_makes_the_next_owner_stop_what_is_left(self, tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
        killed = StackState(tmp_path)
        killed.acquire()
        killed.add_process("sleeper", sleeper.pid, signal.SIGINT)
        left = (tmp_path / "state.json").read_text()
        killed.release()
        (tmp_path / "state.json").write_text(left)

        heir = StackState(tmp_path)
        heir.acquire()

        assert sleeper.wait(5) == -signal.SIGINT
        assert heir.recorded() == []
        heir.release()


class TestReap:
    def test_spares_a_process_that_only_has_the_same_number(self, sleeper: subprocess.Popen[bytes]) -> None:
        record = ProcessRecord.of("sleeper", sleeper.pid)
        reap([replace(record, started_s=record.started_s - 60)])
        assert sleeper.poll() is None

    def test_does_not_mind_one_that_is_gone(self, sleeper: subprocess.Popen[bytes]) -> None:
        record = ProcessRecord.of("sleeper", sleeper.pid)
        sleeper.kill()
        sleeper.wait()
        reap([record])
        assert record.find() is None
