"""A PostgreSQL server of our own, on loopback, with its data in a directory we are given.

Every local user may log in without a password (`trust` on 127.0.0.1): it is for development, tests and demonstrations.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from libs.embedded.binaries import postgres_bin, reachable_postgres_bin
from libs.embedded.child import Child, StartHook
from libs.embedded.errors import EmbeddedError
from libs.embedded.machine import PASSABLE, free_port, unprivileged_account

_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
_UNSAFE_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_STATUS_LINE = 7  # Of postmaster.pid, counted from 0: "starting", "ready", ...


_STILL_IN_USE = b"pre-existing shared memory block"
_SESSIONS_POLL_S = 0.2


class EmbeddedPostgres:
    """PostgreSQL on 127.0.0.1; `start` after `stop` or `kill` uses the same port and data.

    `directory` is created and must be passable for others when we are root. `durable=False` gives up crash safety of
    the machine (not of the process) for speed, for tests.
    """

    def __init__(self, directory: Path, *, durable: bool = True, on_start: StartHook | None = None) -> None:
        self.directory = directory
        self.port = free_port()
        self._durable = durable
        self._data = directory / "data"
        self._account = unprivileged_account()
        # SIGINT is PostgreSQL's fast shutdown: it ends sessions instead of waiting for them.
        self.child = Child(
            "postgres",
            directory / "postgres.log",
            stop_signal=signal.SIGINT,
            account=self._account,
            on_start=on_start,
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, *, timeout_s: float = 60) -> Self:
        """Create the data directory if there is none, start the server and wait until it answers.

        :raises EmbeddedError: if it does not start; with the end of its log
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(PASSABLE)
        programs = reachable_postgres_bin(self.directory.parent, self._account) if self._account else postgres_bin()
        if not (self._data / "PG_VERSION").exists():
            self._initialise(programs)
        arguments: list[str | Path] = [programs / "postgres", "-D", self._data]
        for name, value in self._settings().items():
            arguments += ["-c", f"{name}={value}"]
        deadline = time.monotonic() + timeout_s
        while True:
            log_start = self.child.log_file.stat().st_size if self.child.log_file.exists() else 0
            self.child.start(arguments, _ENVIRONMENT, Path("/"))
            try:
                self.child.wait_until(self._ready, timeout_s=timeout_s)
                return self
            except EmbeddedError:
                if self.child.running or not self._sessions_outlive_a_crash(log_start) or time.monotonic() > deadline:
                    raise
                time.sleep(_SESSIONS_POLL_S)

    def _sessions_outlive_a_crash(self, log_start: int) -> bool:
        """Whether the server refused to start because sessions of a killed one still end themselves."""
        with self.child.log_file.open("rb") as log:
            log.seek(log_start)
            return _STILL_IN_USE in log.read()

    def stop(self, *, grace_s: float = 15) -> None:
        """End all sessions and shut down; nothing happens if the server does not run."""
        self.child.stop(grace_s=grace_s)

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL)."""
        self.child.kill()

    def url(self, database: str = "postgres", role: str = "postgres") -> str:
        """Return a connection URL; the role `postgres` is the superuser."""
        return f"postgresql://{role}@127.0.0.1:{self.port}/{database}"

    def run_sql(self, script: str, database: str = "postgres") -> list[str]:
        """Run a script as superuser, statement by statement, and return the rows as unaligned lines.

        :raises EmbeddedError: at the first statement that fails
        """
        command = [str(postgres_bin() / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", self.url(database)]
        outcome = subprocess.run(
            command, input=script, env=_ENVIRONMENT, cwd="/", capture_output=True, text=True, check=False
        )
        if outcome.returncode != 0:
            raise EmbeddedError(f"SQL failed on {database}: {outcome.stderr.strip()}")
        return outcome.stdout.splitlines()

    def _initialise(self, programs: Path) -> None:
        self._data.mkdir(mode=0o700, exist_ok=True)
        command: list[str | Path] = [programs / "initdb", "-D", self._data, "-U", "postgres", "-A", "trust"]
        command += ["-E", "UTF8", "--locale=C", "--data-checksums", "--no-instructions"]
        if not self._durable:
            command.append("--no-sync")
        initdb = Child("initdb", self.directory / "initdb.log", account=self._account)
        if self._account:
            os.chown(self._data, self._account.uid, self._account.gid)
        initdb.start(command, _ENVIRONMENT, Path("/"))
        if initdb.wait(timeout_s=120) != 0:
            raise EmbeddedError(f"initdb failed: {initdb.log_tail()}")

    def _settings(self) -> dict[str, str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "timezone": "UTC",
        }
        return settings if self._durable else settings | _UNSAFE_SETTINGS

    def _ready(self) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        # A killed server leaves its file behind, and that still says "ready".
        return len(lines) > _STATUS_LINE and lines[0] == str(self.child.pid) and lines[_STATUS_LINE].strip() == "ready"
