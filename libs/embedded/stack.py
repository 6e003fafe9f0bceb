"""Everything on one machine: PostgreSQL, nats-server, the four services and their databases, as one context manager.

Servers that exist already are used instead of ours: with `NATS_URL` in the settings or the environment no nats-server
is started, and no PostgreSQL with `<SERVICE>_DATABASE_URL`, `<SERVICE>_WORKER_DATABASE_URL` and
`<SERVICE>_ADMIN_DATABASE_URL` of all four services in the environment. Everything else in the environment (`OTEL_*` for
one) reaches the service processes as it is.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from libs.embedded.databases import SERVICES, ServiceDatabases
from libs.embedded.errors import EmbeddedError
from libs.embedded.machine import data_root
from libs.embedded.nats_server import EmbeddedNats
from libs.embedded.postgres import EmbeddedPostgres
from libs.embedded.service_processes import PROJECT, Launcher, ServiceProcesses, launch_service
from libs.embedded.state import Endpoints, StackState

DEFAULT_ROOT = PROJECT / ".steelyard"
_URL_VARIABLES = ("DATABASE_URL", "WORKER_DATABASE_URL", "ADMIN_DATABASE_URL")
_STOP_TIMEOUT_S = 60
_POLL_S = 0.05
_LOGGER = logging.getLogger(__name__)


class Stack:
    """The whole system in a data root; one runs there at a time, and what it stored is there at the next start.

    `settings` are further environment variables of all services (`STEELYARD_TEST_CLOCKS=1`). `report` is told in a few
    words what happens. `durable=False` trades the safety of what is stored for speed, in tests. `project` is where the
    package `services` lies. `launcher` decides what is executed for a service process, and in which environment.

    Once started, `root` is the directory in use, `services` the processes, `postgres` and `nats` the servers (None
    where an existing one is used).
    """

    root: Path
    services: ServiceProcesses
    postgres: EmbeddedPostgres | None = None
    nats: EmbeddedNats | None = None

    def __init__(
        self,
        root: Path = DEFAULT_ROOT,
        *,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
        report: Callable[[str], None] = _LOGGER.info,
        project: Path = PROJECT,
        launcher: Launcher = launch_service,
    ) -> None:
        self._preferred_root = root
        self._durable = durable
        self._settings = dict(settings or {})
        self._report = report
        self._project = project
        self._launcher = launcher
        self._resources = ExitStack()
        self._endpoints: Endpoints | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Start the servers, migrate, start the services, and return when all of them serve.

        Until `stop`, SIGTERM and SIGHUP end this process by SystemExit, so that nothing is left running.

        :raises EmbeddedError: if a stack runs here already, or anything does not start; what did start is stopped then
        """
        with ExitStack() as resources:
            self._start(resources)
            self._resources = resources.pop_all()
        atexit.register(self.stop)
        return self

    def stop(self) -> None:
        """Stop services and servers, in this order; nothing happens if they do not run."""
        atexit.unregister(self.stop)
        self._endpoints = None
        self._resources.close()

    def endpoints(self) -> Endpoints:
        """Return where the services answer.

        :raises EmbeddedError: if the stack does not run
        """
        if self._endpoints is None:
            raise EmbeddedError("the stack does not run")
        return self._endpoints

    def _start(self, resources: ExitStack) -> None:
        self.root = data_root(self._preferred_root)
        if self.root != self._preferred_root:
            self._report(f"PostgreSQL cannot run as root below {self._preferred_root}: data is in {self.root}")
        state = StackState(self.root)
        state.acquire()
        resources.callback(state.release)
        resources.enter_context(_exit_on(signal.SIGTERM, signal.SIGHUP))
        environment = {**os.environ, **_keys(), "no_proxy": _no_proxy(), **self._settings}
        environment["NATS_URL"] = self._nats_url(resources, state)
        environments = {service: environment | urls for service, urls in self._databases(resources, state).items()}
        logs = self.root / "logs"
        logs.mkdir(exist_ok=True, mode=0o700)
        self.services = ServiceProcesses(
            logs, environments, project=self._project, on_start=state.add_process, launcher=self._launcher
        )
        resources.callback(self.services.stop)
        self._report("migrating four databases")
        self.services.migrate()
        self._report("starting four services")
        self.services.start()
        self._endpoints = self._where(environment)
        state.publish(self._endpoints)

    def _nats_url(self, resources: ExitStack, state: StackState) -> str:
        existing = self._settings.get("NATS_URL") or os.environ.get("NATS_URL")
        if existing:
            return existing
        self._report("starting nats-server")
        self.nats = EmbeddedNats(self.root / "nats", durable=self._durable, on_start=state.add_process)
        return resources.enter_context(self.nats).url

    def _databases(self, resources: ExitStack, state: StackState) -> dict[str, dict[str, str]]:
        if _existing_databases():
            return {service: {} for service in SERVICES}
        self._report("starting PostgreSQL")
        self.postgres = EmbeddedPostgres(self.root / "postgres", durable=self._durable, on_start=state.add_process)
        resources.enter_context(self.postgres)
        databases = ServiceDatabases(self.postgres).ensure_all()
        return {service: database.environment() for service, database in databases.items()}

    def _where(self, environment: Mapping[str, str]) -> Endpoints:
        return Endpoints(
            ingest=self.services.target("ingest-accept"),
            ingest_query=self.services.target("ingest-query"),
            rating=self.services.target("rating"),
            billing=self.services.target("billing"),
            payments=self.services.target("payments"),
            nats_url=environment["NATS_URL"],
            operator_key=environment["STEELYARD_OPERATOR_KEY"],
        )


def running_endpoints(root: Path = DEFAULT_ROOT) -> Endpoints | None:
    """Return where the stack that some process runs in `root` answers; None without one, or while it starts."""
    return StackState(data_root(root)).endpoints()


def stop_running(root: Path = DEFAULT_ROOT) -> bool:
    """Stop the stack that another process runs in `root`, or what a killed one left; return whether there was any.

    :raises EmbeddedError: if it does not end
    """
    state = StackState(data_root(root))
    owner = state.owner()
    if owner is None:
        return False
    if not state.owned():
        state.acquire()  # Stops what a killed owner left.
        state.release()
        return True
    os.kill(owner, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    while state.owned():
        if time.monotonic() > deadline:
            raise EmbeddedError(f"process {owner} did not stop its stack within {_STOP_TIMEOUT_S} s")
        time.sleep(_POLL_S)
    return True


def _keys() -> dict[str, str]:
    names = ("STEELYARD_OPERATOR_KEY", "STEELYARD_INTERNAL_KEY")
    return {name: os.environ.get(name) or secrets.token_urlsafe(32) for name in names}


def _no_proxy() -> str:
    """Return the hosts to reach directly: gRPC would send even calls on loopback to the machine's HTTP proxy."""
    present = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    return f"{present},127.0.0.1" if present else "127.0.0.1"


def _existing_databases() -> bool:
    names = [f"{service.upper()}_{variable}" for service in SERVICES for variable in _URL_VARIABLES]
    missing = [name for name in names if not os.environ.get(name)]
    if missing and len(missing) < len(names):
        raise EmbeddedError("existing databases are used for all services or for none; not set: " + ", ".join(missing))
    return not missing


@contextmanager
def _exit_on(*numbers: signal.Signals) -> Iterator[None]:
    """Turn signals that would end the process without clean-up into SystemExit, unless somebody handles them."""

    def leave(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    in_main_thread = threading.current_thread() is threading.main_thread()
    unhandled = [number for number in numbers if in_main_thread and signal.getsignal(number) is signal.SIG_DFL]
    for number in unhandled:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in unhandled:
            signal.signal(number, signal.SIG_DFL)
