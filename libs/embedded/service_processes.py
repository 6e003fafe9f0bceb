"""The processes of the four services: `python -m services.<service>`, each with its environment, ports and log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2

from libs.embedded.child import Child, StartHook
from libs.embedded.errors import EmbeddedError
from libs.embedded.machine import free_port

PROJECT = Path(__file__).resolve().parents[2]
_HEALTH_TIMEOUT_S = 1
_CHANNEL_OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    # A service listens within a second or so; the default would let the next attempt wait longer than that.
    *((f"grpc.{bound}_reconnect_backoff_ms", 100) for bound in ("initial", "min", "max")),
]


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """One process of a service and the role it plays."""

    name: str
    service: str
    role: str


@dataclass(frozen=True, slots=True)
class Launch:
    """What is executed for a process, and its whole environment."""

    command: tuple[str, ...]
    environment: Mapping[str, str]


Launcher = Callable[[ProcessPlan, Mapping[str, str]], Launch]
"""Is asked at every start of a process, with the environment that it would have; ports and peers are in there."""


def launch_service(plan: ProcessPlan, environment: Mapping[str, str]) -> Launch:
    """Run the service as it is run everywhere: `python -m services.<service> --role <role>`."""
    return Launch((sys.executable, "-m", f"services.{plan.service}", "--role", plan.role), environment)


PROCESS_PLANS = (
    ProcessPlan("ingest-accept", "ingest", "accept"),
    ProcessPlan("ingest-record", "ingest", "record"),
    ProcessPlan("ingest-query", "ingest", "query"),
    ProcessPlan("ingest-maintain", "ingest", "maintain"),
    ProcessPlan("rating", "rating", "all"),
    ProcessPlan("billing", "billing", "all"),
    ProcessPlan("payments", "payments", "all"),
)
_PEER_VARIABLES = {
    "INGEST_QUERY_TARGET": "ingest-query",
    "RATING_TARGET": "rating",
    "BILLING_TARGET": "billing",
    "PAYMENTS_TARGET": "payments",
}


class ServiceProcesses:
    """Starts, stops, kills and restarts service processes by name (`ingest-accept`, ..., `payments`).

    `environments` holds the variables of each service; ports, peers and metrics are added here. A process keeps its
    ports when it is started again. Logs go to `<directory>/<name>.log`; `project` is where the package `services` lies.
    `launcher` may have something else executed, or in another environment (through a proxy, say); migrations are run
    as always.
    """

    def __init__(
        self,
        directory: Path,
        environments: Mapping[str, Mapping[str, str]],
        *,
        project: Path = PROJECT,
        on_start: StartHook | None = None,
        launcher: Launcher = launch_service,
    ) -> None:
        self._directory = directory
        self._environments = environments
        self._project = project
        self._on_start = on_start
        self._launcher = launcher
        self._plans = {plan.name: plan for plan in PROCESS_PLANS}
        self._ports = {name: free_port() for name in self._plans}
        self._metrics_ports = {name: free_port() for name in self._plans}
        self._children = {name: self._child(name) for name in self._plans}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all processes, in the order in which they are started."""
        return tuple(self._plans)

    def target(self, name: str) -> str:
        """Return `host:port` of the process's gRPC server."""
        return f"127.0.0.1:{self._ports[name]}"

    def metrics_target(self, name: str) -> str:
        """Return `host:port` of the process's Prometheus endpoint."""
        return f"127.0.0.1:{self._metrics_ports[name]}"

    def child(self, name: str) -> Child:
        """Return the process, to look at its state and log, or to kill it (`child(name).kill()`)."""
        return self._children[name]

    def migrate(self, *, timeout_s: float = 120) -> None:
        """Bring the databases of all services to their newest schema, all at once.

        :raises EmbeddedError: if a migration fails; with the end of its log
        """
        services = dict.fromkeys(plan.service for plan in PROCESS_PLANS)
        migrations = {service: self._child(f"migrate-{service}") for service in services}
        try:
            for service, migration in migrations.items():
                command = [sys.executable, "-m", f"services.{service}", "migrate"]
                migration.start(command, self._environments[service], self._project)
            for migration in migrations.values():
                if migration.wait(timeout_s=timeout_s) != 0:
                    raise EmbeddedError(f"{migration.name} failed: {migration.log_tail()}")
        finally:
            for migration in migrations.values():
                migration.stop(grace_s=0)

    def start(self, *names: str, timeout_s: float = 60) -> None:
        """Start the named processes, all if none is named, and wait until each answers that it serves.

        :raises EmbeddedError: if one runs already, ends or does not become ready
        """
        chosen = names or self.names
        for name in chosen:
            launch = self._launcher(self._plans[name], self._environment(self._plans[name]))
            self._children[name].start(launch.command, launch.environment, self._project)
        deadline = time.monotonic() + timeout_s
        for name in chosen:
            self._wait_until_serving(name, max(1, deadline - time.monotonic()))

    def stop(self, *names: str, grace_s: float = 20) -> None:
        """Ask the named processes, all if none is named, to end; kill those that still run after `grace_s`."""
        children = [self._children[name] for name in names or self.names]
        for child in children:
            child.ask_to_stop()
        deadline = time.monotonic() + grace_s
        for child in children:
            child.stop(grace_s=max(0, deadline - time.monotonic()))

    def restart(self, *names: str) -> None:
        """Stop and start the named processes, all if none is named."""
        self.stop(*names)
        self.start(*names)

    def _child(self, name: str) -> Child:
        return Child(name, self._directory / f"{name}.log", on_start=self._on_start)

    def _environment(self, plan: ProcessPlan) -> dict[str, str]:
        peers = {variable: self.target(peer) for variable, peer in _PEER_VARIABLES.items()}
        own = {"GRPC_LISTEN": self.target(plan.name), "METRICS_LISTEN": self.metrics_target(plan.name)}
        return {**self._environments[plan.service], **peers, **own}

    def _wait_until_serving(self, name: str, timeout_s: float) -> None:
        with grpc.insecure_channel(self.target(name), options=_CHANNEL_OPTIONS) as channel:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )

            def serving() -> bool:
                try:
                    answer = check(health_pb2.HealthCheckRequest(), timeout=_HEALTH_TIMEOUT_S)
                except grpc.RpcError:
                    return False
                return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

            self._children[name].wait_until(serving, timeout_s=timeout_s)
