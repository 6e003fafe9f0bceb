"""One stack with faults built in: the launcher starts every service process, and every link goes by the proxy."""

from __future__ import annotations

import re
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import psutil

from libs.embedded.errors import EmbeddedError
from libs.embedded.nats_server import EmbeddedNats
from libs.embedded.postgres import EmbeddedPostgres
from libs.embedded.service_processes import Launch, ProcessPlan
from libs.embedded.stack import Stack
from tests.faults.driver.nats_cluster import NatsCluster
from tests.faults.driver.proxy import Proxy
from tests.faults.inside.switches import Setting

_TARGETS = {"INGEST_QUERY_TARGET": "ingest-query", "RATING_TARGET": "rating"}
_TARGETS |= {"BILLING_TARGET": "billing", "PAYMENTS_TARGET": "payments"}
_SUPERVISE_EVERY_S = 0.1
_AGAIN_AFTER_S = 0.5
_START_TIMEOUT_S = 20
POSTGRES, NATS = "postgres", "nats"


class World:
    """A stack, its proxy, and the control files of its processes. Dead service processes are started again at once, as
    a supervisor would, unless they are held down."""

    def __init__(self, root: Path, *, cluster: NatsCluster | None = None, short_waits: bool = True) -> None:
        """`cluster`: NATS is these servers, started already, instead of a server of the stack's own. `short_waits`:
        what a crashed process had taken is free again after 3 s instead of 30 s."""
        self.root = root
        self.servers: dict[str, EmbeddedPostgres | EmbeddedNats] = dict(cluster.servers) if cluster else {}
        self.controls = root / "controls"
        self.proxy = Proxy()
        self.restarts: Counter[str] = Counter()
        self._short_waits = short_waits
        settings = {"STEELYARD_TEST_CLOCKS": "1", "INGEST_PURGE_MARGIN": "5s"}
        settings |= {"NATS_URL": cluster.url, "NATS_REPLICAS": "3"} if cluster else {}
        self.stack = Stack(root / "stack", settings=settings, launcher=self._launch)
        self._resources = ExitStack()
        self._ending = threading.Event()
        self._held_down: set[str] = set()
        self._locks: dict[str, threading.Lock] = {}

    def __enter__(self) -> Self:
        self.controls.mkdir(parents=True)
        with ExitStack() as resources:
            resources.enter_context(self.proxy)
            with _files_may_grow_too_large():
                resources.enter_context(self.stack)
            self.servers |= {POSTGRES: self.stack.postgres} if self.stack.postgres else {}
            self.servers |= {NATS: self.stack.nats} if self.stack.nats else {}
            self._locks = {name: threading.Lock() for name in self.stack.services.names}
            supervisors = [
                threading.Thread(target=self._supervise, args=(name,), name=f"supervise {name}", daemon=True)
                for name in self._locks
            ]
            for supervisor in supervisors:
                supervisor.start()
            resources.callback(self._end, supervisors)
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    @property
    def names(self) -> tuple[str, ...]:
        """The service processes."""
        return self.stack.services.names

    @property
    def nats_url(self) -> str:
        """Where NATS is, past the proxy."""
        return self.stack.endpoints().nats_url

    def superuser_url(self, service: str) -> str:
        """Where checkers read, past every service and proxy."""
        assert self.stack.postgres is not None
        return self.stack.postgres.url(service)

    def client_target(self, name: str) -> str:
        """Where a client reaches the process, by the proxy."""
        port = int(self.stack.services.target(name).rpartition(":")[2])
        return f"127.0.0.1:{self.proxy.port(f'client->{name}', port)}"

    def set(self, name: str, setting: Setting) -> None:
        """Have the process follow a setting from now on, until it has crashed by it."""
        (self.controls / f"{name}.fired").unlink(missing_ok=True)
        partial = self.controls / f"{name}.new"
        partial.write_text(setting.to_json())
        partial.replace(self.controls / f"{name}.json")

    def fired(self, name: str) -> bool:
        """Whether the process has crashed at the point it was armed with last."""
        return (self.controls / f"{name}.fired").exists()

    def calm(self) -> None:
        """End every disorder: switches off, links healthy, nothing held down or stopped."""
        for name in self.names:
            (self.controls / f"{name}.json").unlink(missing_ok=True)
            (self.controls / f"{name}.fired").unlink(missing_ok=True)
        self.proxy.heal()
        self._held_down.clear()
        for victim in (*self.names, *self.servers):
            with suppress(psutil.NoSuchProcess):
                self.resume(victim)

    def notes(self) -> Counter[str]:
        """What happened in all processes so far."""
        total: Counter[str] = Counter()
        for file in self.controls.glob("*.notes"):
            total.update(file.read_text().split())
        return total

    def kill(self, victim: str) -> None:
        """`kill -9` a service process or a server. A service comes back by itself, a server by `start_server`."""
        if victim in self.servers:
            self.servers[victim].kill()
        else:
            self._signal(victim, signal.SIGKILL)

    def start_server(self, victim: str) -> None:
        """Start a killed server on its data."""
        with _files_may_grow_too_large():
            self.servers[victim].start()

    def pause(self, victim: str) -> None:
        """SIGSTOP a process with its children."""
        self._signal(victim, signal.SIGSTOP)

    def resume(self, victim: str) -> None:
        """SIGCONT."""
        self._signal(victim, signal.SIGCONT)

    @contextmanager
    def held_down(self, *names: str) -> Iterator[None]:
        """Keep service processes dead."""
        self._held_down.update(names)
        for name in names:
            self.kill(name)
        try:
            yield
        finally:
            self._held_down.difference_update(names)

    def wait_until_up(self, timeout_s: float = 60) -> None:
        """Return when every service process runs and serves.

        :raises EmbeddedError: if one does not
        """
        deadline = time.monotonic() + timeout_s
        for name in self.names:
            while not self._is_up(name):
                if time.monotonic() > deadline:
                    raise EmbeddedError(f"{name} did not come back: {self.stack.services.child(name).log_tail()}")
                time.sleep(_SUPERVISE_EVERY_S)

    def restart_services(self) -> None:
        """Restart all service processes, as `kubectl rollout restart` would."""
        for name in self.names:
            self._signal(name, signal.SIGTERM)
        time.sleep(_AGAIN_AFTER_S)
        self.wait_until_up()

    def wipe_nats(self) -> None:
        """Kill NATS and lose everything that it has stored; it is back when this returns, and empty."""
        server = self.servers[NATS]
        server.kill()
        shutil.rmtree(server.directory / "jetstream")
        self.start_server(NATS)

    def _is_up(self, name: str) -> bool:
        # A supervisor that starts it holds the lock until it serves.
        if self._locks[name].acquire(blocking=False):
            try:
                return self.stack.services.child(name).running
            finally:
                self._locks[name].release()
        return False

    def _pid(self, victim: str) -> int:
        return self.servers[victim].child.pid if victim in self.servers else self.stack.services.child(victim).pid

    def _signal(self, victim: str, number: signal.Signals) -> None:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self._pid(victim))
            for one in (process, *process.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    one.send_signal(number)

    def _launch(self, plan: ProcessPlan, environment: Mapping[str, str]) -> Launch:
        routed = {name: self._routed(plan.name, name, value) for name, value in environment.items()}
        control = str(self.controls / f"{plan.name}.json")
        waits = {"SHORT_WAITS": "1"} if self._short_waits else {}
        command = (sys.executable, "-m", "tests.faults.launch", plan.service, "--role", plan.role)
        return Launch(command, routed | waits | {"FAULT_CONTROL": control})

    def _routed(self, process: str, variable: str, value: str) -> str:
        """The value with the proxy's address in it, if it says where a server or a peer is."""
        if variable == "NATS_URL":
            servers = value.split(",")
            numbers = [""] if len(servers) == 1 else [f"-{number}" for number in range(len(servers))]
            return ",".join(map(self._routed_url, [f"{process}->nats{number}" for number in numbers], servers))
        if re.fullmatch(r"[A-Z]+(_WORKER)?_DATABASE_URL", variable):
            return self._routed_url(f"{process}->postgres", value)
        if variable in _TARGETS:
            return f"127.0.0.1:{self.proxy.port(f'{process}->{_TARGETS[variable]}', int(value.rpartition(':')[2]))}"
        return value

    def _routed_url(self, link: str, url: str) -> str:
        parts = urlsplit(url)
        assert parts.port is not None
        port = self.proxy.port(link, parts.port)
        user = f"{parts.username}@" if parts.username else ""
        return parts._replace(netloc=f"{user}127.0.0.1:{port}").geturl()

    def _supervise(self, name: str) -> None:
        child = self.stack.services.child(name)
        while not self._ending.wait(_SUPERVISE_EVERY_S):
            if child.running or name in self._held_down:
                continue
            with self._locks[name]:
                try:
                    self.restarts[name] += 1
                    self.stack.services.start(name, timeout_s=_START_TIMEOUT_S)
                except EmbeddedError:  # Its servers are away, or it was killed again.
                    self._ending.wait(_AGAIN_AFTER_S)

    def _end(self, supervisors: list[threading.Thread]) -> None:
        self.calm()
        self._ending.set()
        for supervisor in supervisors:
            supervisor.join()


@contextmanager
def _files_may_grow_too_large() -> Iterator[None]:
    """Processes that are started here see EFBIG when a file meets RLIMIT_FSIZE, instead of dying of SIGXFSZ.

    A blocked signal stays blocked over exec, and Go's runtime unblocks only signals that it needs itself. An ignored
    one would not do: Go installs its own handler, which ends the program.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGXFSZ})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
