"""Facts about the machine and the versions that a result depends on, and who used its processors."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks.report import Value
from libs.embedded.binaries import nats_server, postgres_bin
from libs.embedded.stack import Stack

_PACKAGES = ("grpcio", "protobuf", "asyncpg", "sqlalchemy", "nats-py")
# PostgreSQL writes into its process titles what each of them is: `postgres: <role> <database> <client> ...`.
_SESSION = re.compile(r"postgres: \w+ (\w+) [\d.]+\(\d+\)")
_MIB = 1 << 20


def machine_facts() -> dict[str, Value]:
    """Return processors, memory and versions."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "memory_mib": psutil.virtual_memory().total // _MIB,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "postgresql": _printed_version(postgres_bin() / "postgres"),
        "nats_server": _printed_version(nats_server()),
        **{name: version(name) for name in _PACKAGES},
    }


class CpuMeter:
    """CPU seconds used since it was made, by process: services, nats-server, PostgreSQL's by database, and ourselves.

    The rest of the machine's is `others`: if it is much, the benchmark was not alone and its figures are too low.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._machine_before_s = self._machine_s()
        self._before = self._read()

    def used_s(self) -> dict[str, float]:
        """Return the CPU time by process, most used first, without those that used next to nothing."""
        used: dict[str, float] = {}
        for key, seconds in self._read().items():
            used[key[0]] = used.get(key[0], 0) + seconds - self._before.get(key, 0)
        used["others"] = self._machine_s() - self._machine_before_s - sum(used.values())
        ordered = sorted(used.items(), key=lambda item: -item[1])
        return {name: round(seconds, 2) for name, seconds in ordered if seconds >= 0.01}

    @staticmethod
    def _machine_s() -> float:
        times = psutil.cpu_times()
        return float(times.user + times.nice + times.system + times.irq + times.softirq)

    def _read(self) -> dict[tuple[str, int], float]:
        children = [self._stack.services.child(name) for name in self._stack.services.names]
        labelled = [(child.name, psutil.Process(child.pid)) for child in children if child.running]
        labelled.append(("benchmark client", psutil.Process()))
        if self._stack.nats:
            labelled.append(("nats-server", psutil.Process(self._stack.nats.child.pid)))
        if self._stack.postgres:
            server = psutil.Process(self._stack.postgres.child.pid)
            labelled += [(_title(process), process) for process in [server, *server.children()]]
        read: dict[tuple[str, int], float] = {}
        for name, process in labelled:
            with contextlib.suppress(psutil.NoSuchProcess):  # Sessions and vacuum workers come and go.
                times = process.cpu_times()
                read[name, process.pid] = times.user + times.system
        return read


def _title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        title = " ".join(process.cmdline())
        if session := _SESSION.match(title):
            return f"postgres {session[1]}"
    return "postgres background"


def _printed_version(program: Path) -> str:
    answer = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True)
    return answer.stdout.strip()


def _processor() -> str:
    with contextlib.suppress(FileNotFoundError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
