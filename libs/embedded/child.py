"""One operating-system process that we start, watch and stop."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from libs.embedded.errors import EmbeddedError
from libs.embedded.machine import Account

_POLL_S = 0.02
_LOG_TAIL_BYTES = 2_000
_KILL_WAIT_S = 10
# Popen can change the account itself, but then forks for good, and what a library has told the C library to do at a
# fork (gRPC does) may end the child of a process with several threads by SIGSEGV. So it starts this, by vfork.
_AS_ACCOUNT = """
import os, sys
os.setgroups([])
os.setgid(int(sys.argv[1]))
os.setuid(int(sys.argv[2]))
os.execv(sys.argv[3], sys.argv[3:])
"""

StartHook = Callable[[str, int, signal.Signals], None]
"""Is told the name, process id and stop signal of every process as soon as it was started."""


class Child:
    """A process in a session of its own (Ctrl-C does not reach it) whose output goes to a log file.

    It can be started again after it ended. Not safe for use by several threads at once.
    """

    def __init__(
        self,
        name: str,
        log_file: Path,
        *,
        stop_signal: signal.Signals = signal.SIGTERM,
        account: Account | None = None,
        on_start: StartHook | None = None,
    ) -> None:
        self.name = name
        self.log_file = log_file
        self._stop_signal = stop_signal
        self._account = account
        self._on_start = on_start
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the latest start."""
        return self._started().pid

    @property
    def running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, arguments: Sequence[str | Path], environment: Mapping[str, str], directory: Path) -> None:
        """Start the process in the given directory.

        :raises EmbeddedError: if it runs already, or cannot be executed
        """
        if self.running:
            raise EmbeddedError(f"{self.name} is running already (process {self.pid})")
        with self.log_file.open("ab") as log:
            try:
                self._process = subprocess.Popen(
                    [*self._changing_account(), *map(str, arguments)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=directory,
                    env=dict(environment),
                    start_new_session=True,
                )
            except OSError as error:
                raise EmbeddedError(f"{self.name} cannot be started: {error}") from error
        if self._on_start:
            self._on_start(self.name, self.pid, self._stop_signal)

    def wait_until(self, ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Return once `ready` holds.

        :raises EmbeddedError: with the end of the log, if the process ends first or the time is over
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            if not self.running:
                raise EmbeddedError(f"{self.name} ended with code {self._started().returncode}: {self.log_tail()}")
            if time.monotonic() > deadline:
                raise EmbeddedError(f"{self.name} was not ready within {timeout_s:g} s: {self.log_tail()}")
            time.sleep(_POLL_S)

    def wait(self, *, timeout_s: float) -> int:
        """Wait for the end of the process and return its exit code, negative if a signal ended it.

        :raises EmbeddedError: if the time is over; the process is killed then
        """
        try:
            return self._started().wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise EmbeddedError(f"{self.name} did not end within {timeout_s:g} s: {self.log_tail()}") from error

    def ask_to_stop(self) -> None:
        """Send the stop signal and return at once; nothing happens if the process does not run."""
        if self.running:
            self.send_signal(self._stop_signal)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone; nothing happens if it has ended."""
        self._started().send_signal(number)

    def kill(self) -> None:
        """End the process and its process group at once, as a crash would, and wait until it is gone."""
        process = self._started()
        if self.running:
            with contextlib.suppress(ProcessLookupError):  # It may end between the check and the signal.
                os.killpg(process.pid, signal.SIGKILL)
        process.wait(_KILL_WAIT_S)

    def stop(self, *, grace_s: float) -> None:
        """Ask the process to end, wait for `grace_s`, then kill it; nothing happens if it does not run."""
        self.ask_to_stop()
        if self.running:
            try:
                self._started().wait(grace_s)
            except subprocess.TimeoutExpired:
                self.kill()

    def log_tail(self) -> str:
        """Return where the log is and how it ends."""
        end = self.log_file.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")
        return f"{self.log_file}:\n{end}"

    def _changing_account(self) -> list[str]:
        """What to start so that the rest of the command runs as the account; it keeps its process id."""
        if self._account is None:
            return []
        return [sys.executable, "-ISc", _AS_ACCOUNT, str(self._account.gid), str(self._account.uid)]

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise EmbeddedError(f"{self.name} was never started")
        return self._process
