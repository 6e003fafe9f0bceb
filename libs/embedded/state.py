"""What a running stack leaves on disk: its lock, the processes it started, and where its services answer."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from libs.embedded.errors import EmbeddedError

# The start of a process is told as wall-clock time, which may be adjusted a little while it runs.
_START_TOLERANCE_S = 2
_REAP_GRACE_S = 15
_KILL_WAIT_S = 10
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a stack answers: `host:port` per gRPC server, and the key that may do everything."""

    ingest: str
    ingest_query: str
    rating: str
    billing: str
    payments: str
    nats_url: str
    operator_key: str


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A process by number and start (seconds since the epoch), so that a number used again is not mistaken for it."""

    name: str
    pid: int
    started_s: float
    stop_signal: int

    @classmethod
    def of(cls, name: str, pid: int, stop_signal: signal.Signals = signal.SIGTERM) -> ProcessRecord:
        """Describe a process that runs, or that we have not yet waited for."""
        return cls(name, pid, psutil.Process(pid).create_time(), int(stop_signal))

    def find(self) -> psutil.Process | None:
        """Return the process if it still runs; None if it ended or another one has its number."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started_s) <= _START_TOLERANCE_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


class StackState:
    """The files `lock` and `state.json` of one data root.

    The lock is held as long as the owner lives, however it dies; the state outlives it, and tells the next owner which
    processes it has to stop. Processes may be added by several threads.
    """

    def __init__(self, root: Path) -> None:
        self._file = root / "state.json"
        self._lock_file = root / "lock"
        self._lock: IO[str] | None = None
        self._processes: dict[str, ProcessRecord] = {}
        self._endpoints: Endpoints | None = None
        self._adding = threading.Lock()

    def acquire(self) -> None:
        """Become the owner of the data root and stop what a killed owner left running.

        :raises EmbeddedError: if another process owns it
        """
        lock = self._lock_file.open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise EmbeddedError(f"a stack runs already in {self._file.parent} (process {self.owner()})") from None
        self._lock = lock
        left_behind = self.recorded()
        # Ours from here on, but not forgotten: if we are killed meanwhile, the next owner goes on.
        self._processes = {record.name: record for record in left_behind}
        self._save()
        reap(left_behind)
        self._processes.clear()
        self._save()

    def release(self) -> None:
        """Forget everything and give up the data root; the processes must have ended."""
        if self._lock is not None:
            self._file.unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def add_process(self, name: str, pid: int, stop_signal: signal.Signals) -> None:
        """Note a process that was just started; a restarted one replaces its predecessor."""
        with self._adding:
            self._processes[name] = ProcessRecord.of(name, pid, stop_signal)
            self._save()

    def publish(self, endpoints: Endpoints) -> None:
        """Let other processes find the services."""
        self._endpoints = endpoints
        self._save()

    def owner(self) -> int | None:
        """Return the process id in the state file, None without one; whether it lives only the lock tells."""
        content = self._read()
        return int(content["owner"]) if content else None

    def owned(self) -> bool:
        """Tell whether some process, this one included, holds the data root."""
        if not self._lock_file.exists():
            return False
        with self._lock_file.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def endpoints(self) -> Endpoints | None:
        """Return where the services of the living owner answer, None if there is none or it is still starting."""
        content = self._read() if self.owned() else None
        return Endpoints(**content["endpoints"]) if content and content["endpoints"] else None

    def recorded(self) -> list[ProcessRecord]:
        """Return the processes in the state file, whether or not they still run."""
        content = self._read()
        return [ProcessRecord(**record) for record in content["processes"]] if content else []

    def _read(self) -> dict[str, Any] | None:
        try:
            content: dict[str, Any] = json.loads(self._file.read_text())
        except FileNotFoundError:
            return None
        return content

    def _save(self) -> None:
        content = {
            "owner": os.getpid(),
            "processes": [asdict(record) for record in self._processes.values()],
            "endpoints": asdict(self._endpoints) if self._endpoints else None,
        }
        fresh = self._file.with_suffix(".new")
        fresh.touch(mode=0o600)  # It holds the operator's key.
        fresh.write_text(json.dumps(content, indent=2))
        fresh.replace(self._file)


def reap(records: Iterable[ProcessRecord]) -> None:
    """Stop the recorded processes that still run, the last started first, and kill what does not stop in time.

    :raises EmbeddedError: if one survives even that
    """
    for record in reversed(list(records)):
        _signal(record, signal.Signals(record.stop_signal))
        if not _ended(record, _REAP_GRACE_S):
            _signal(record, signal.SIGKILL)
            if not _ended(record, _KILL_WAIT_S):
                raise EmbeddedError(f"{record.name} (process {record.pid}) of an earlier stack cannot be stopped")


def _signal(record: ProcessRecord, number: signal.Signals) -> None:
    process = record.find()
    if process is not None:
        with contextlib.suppress(psutil.NoSuchProcess):  # It may end between the look and the signal.
            process.send_signal(number)


def _ended(record: ProcessRecord, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while record.find() is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
