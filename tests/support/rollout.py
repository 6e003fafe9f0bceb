"""Two replicas of every process that answers calls, replaced one after the other, as a Deployment with minReadySeconds
does it: a new one is ready for a moment before an old one is asked to stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.embedded.child import Child
from libs.embedded.machine import free_port
from libs.embedded.service_processes import PROJECT, Launch, ProcessPlan, launch_service
from libs.embedded.stack import Stack
from steelyard import Endpoints

REPLICATED = ("ingest-accept", "ingest-query", "rating", "billing", "payments")
SINGLE = ("ingest-record", "ingest-maintain")
PEERS = {
    "INGEST_QUERY_TARGET": "ingest-query",
    "RATING_TARGET": "rating",
    "BILLING_TARGET": "billing",
    "PAYMENTS_TARGET": "payments",
}
# A client looks again for an address that did not answer after 3 s at most, give or take a fifth.
MIN_READY_S = 4.0
EXIT_WITHIN_S = 30.0
CROWD_GATHERS_S = 0.3


def held_port() -> socket.socket:
    """A loopback port that is taken, but where nobody listens."""
    held = socket.socket()
    held.bind(("127.0.0.1", free_port()))
    return held


class Rollout:
    """Three addresses per process, of which two serve; a Launcher that tells every process all addresses of its peers.

    The first is that of the stack's own process, the others are those of replicas started here.
    """

    def __init__(self) -> None:
        self.stopping = ""
        names = (*REPLICATED, *SINGLE)
        # Held until a process listens there: clients try these addresses all the time, and must find nobody else.
        self._held = {name: (held_port(), held_port()) for name in names}
        self._others = {name: [held.getsockname()[1] for held in self._held[name]] for name in names}
        self._launches: dict[str, Launch] = {}
        self._replicas: dict[str, Child] = {}
        self.replaced: list[str] = []

    def __call__(self, plan: ProcessPlan, environment: Mapping[str, str]) -> Launch:
        peers = {variable: self._addresses(environment[variable], name) for variable, name in PEERS.items()}
        self._launches[plan.name] = launch_service(plan, {**environment, **peers})
        return self._launches[plan.name]

    def target(self, stack: Stack, name: str) -> str:
        return self._addresses(stack.services.target(name), name)

    def _addresses(self, first: str, name: str) -> str:
        return ",".join([f"ipv4:{first}", *(f"127.0.0.1:{port}" for port in self._others[name])])

    async def start_second_replicas(self, stack: Stack) -> None:
        for name in REPLICATED:
            self._replicas[name] = await self._start(stack, name, 0)

    async def replace_all(self, stack: Stack) -> None:
        """Replace every process, one after the other."""
        for name in stack.services.names:
            await self.replace(stack, name)

    async def replace(self, stack: Stack, name: str) -> None:
        """Replace the processes of this name, one after the other."""
        third = await self._start(stack, name, 1)
        await self._stop(name, stack.services.child(name))
        if name in REPLICATED:
            await asyncio.to_thread(stack.services.start, name)
            await self._stop(name, self._replicas[name])
        self._replicas[name] = third

    def close(self) -> None:
        """Kill the replicas that still run."""
        for held in self._held.values():
            for port in held:
                port.close()
        for replica in self._replicas.values():
            if replica.running:
                replica.kill()

    async def _start(self, stack: Stack, name: str, which: int) -> Child:
        address = f"127.0.0.1:{self._others[name][which]}"
        launch = self._launches[name]
        child = Child(f"{name}-{which}", stack.root / "logs" / f"{name}-{which}.log")
        self._held[name][which].close()
        own = {"GRPC_LISTEN": address, "METRICS_LISTEN": f"127.0.0.1:{free_port()}"}
        child.start(launch.command, {**launch.environment, **own}, PROJECT)
        try:
            async with grpc.aio.insecure_channel(address) as channel:
                watch = health_pb2_grpc.HealthStub(channel).Watch(  # type: ignore[attr-defined]
                    health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=60
                )
                while (await watch.read()).status != health_pb2.HealthCheckResponse.SERVING:
                    continue
        except BaseException:
            child.kill()
            raise
        return child

    async def _stop(self, name: str, child: Child) -> None:
        await asyncio.sleep(MIN_READY_S)
        self.stopping = name
        await asyncio.sleep(CROWD_GATHERS_S)
        child.ask_to_stop()
        assert await asyncio.to_thread(child.wait, timeout_s=EXIT_WITHIN_S) == 0, child.log_tail()
        self.stopping = ""
        self.replaced.append(name)


@asynccontextmanager
async def rolled_out(stack: Stack, rollout: Rollout) -> AsyncIterator[Endpoints]:
    """Two replicas of everything, and where they are; the additional ones are gone at the end."""
    try:
        await rollout.start_second_replicas(stack)
        names = ("ingest-accept", "ingest-query", "rating", "billing", "payments")
        yield Endpoints(*(rollout.target(stack, name) for name in names))
    finally:
        rollout.close()
