"""A rolling restart of every service process under load: no call fails, no event is lost or counted twice.

Two replicas of everything that answers calls; a new one is ready for a moment before an old one is asked to stop, as a
Deployment with minReadySeconds does it.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.cli.demo.scenario import Scenario
from libs.cli.demo.workload import Workload, generated
from libs.cli.reconcile import all_checks, all_ok
from libs.embedded.child import Child
from libs.embedded.machine import free_port
from libs.embedded.service_processes import PROJECT, Launch, ProcessPlan, launch_service
from libs.embedded.stack import Stack
from steelyard import Client, DeliveryReport, Endpoints, Options, SteelyardError, Verdict
from steelyard.billing.v1 import customer_service_pb2, invoice_service_pb2, subscription_service_pb2
from steelyard.common.v1 import period_pb2
from steelyard.ingest.v1 import meter_service_pb2, usage_service_pb2
from steelyard.payments.v1 import ledger_service_pb2, payment_service_pb2
from steelyard.rating.v1 import rate_card_service_pb2
from steelyard.retry import Retrying

CUSTOMERS, SEED = 4, 3
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
        child.ask_to_stop()
        assert await asyncio.to_thread(child.wait, timeout_s=EXIT_WITHIN_S) == 0, child.log_tail()
        self.replaced.append(name)


@dataclass
class Load:
    """What is asked and recorded until `over` is set, and how it went."""

    workload: Workload
    over: asyncio.Event = field(default_factory=asyncio.Event)
    asked: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)

    async def ask(self, name: str, call: Callable[[], Awaitable[object]]) -> None:
        while not self.over.is_set():
            try:
                await call()
            except SteelyardError as error:
                self.failed.append(f"{name}: {error!r}")
            self.asked[name] += 1
            await asyncio.sleep(0.03)

    async def record(self, client: Client, prefix: str) -> DeliveryReport:
        """Record the workload's events again and again, each time under ids of their own."""
        number = 0
        while not self.over.is_set():
            for event in self.workload.originals:
                await client.record_event(replace(event, event_id=f"{prefix}-{number}"))
                number += 1
            await asyncio.sleep(0.1)
        report = await client.flush()
        self.asked[prefix] = number
        return report


def queries(client: Client, customer_id: str) -> dict[str, Callable[[], Awaitable[object]]]:
    """Calls to all services, the last one through billing to rating and on to ingest."""
    services = client.services
    return {
        "meters": lambda: services.meters.ListMeters(meter_service_pb2.ListMetersRequest()),
        "counts": lambda: services.usage.GetEventCounts(usage_service_pb2.GetEventCountsRequest()),
        "rate cards": lambda: services.rate_cards.ListRateCards(rate_card_service_pb2.ListRateCardsRequest()),
        "customer": lambda: services.customers.GetCustomer(
            customer_service_pb2.GetCustomerRequest(customer_id=customer_id)
        ),
        "subscriptions": lambda: services.subscriptions.ListSubscriptions(
            subscription_service_pb2.ListSubscriptionsRequest()
        ),
        "payments": lambda: services.payments.ListPayments(payment_service_pb2.ListPaymentsRequest()),
        "ledger": lambda: services.ledger.GetLedgerBalances(ledger_service_pb2.GetLedgerBalancesRequest()),
        "spend": lambda: services.invoices.GetCurrentSpend(
            invoice_service_pb2.GetCurrentSpendRequest(customer_id=customer_id)
        ),
        "preview": lambda: services.invoices.PreviewInvoice(
            invoice_service_pb2.PreviewInvoiceRequest(subscription_id=f"sub-{customer_id}")
        ),
    }


@asynccontextmanager
async def rolled_out(stack: Stack, rollout: Rollout) -> AsyncIterator[Endpoints]:
    """Two replicas of everything, and where they are; the additional ones are gone at the end."""
    try:
        await rollout.start_second_replicas(stack)
        names = ("ingest-accept", "ingest-query", "rating", "billing", "payments")
        yield Endpoints(*(rollout.target(stack, name) for name in names))
    finally:
        rollout.close()


@pytest.fixture
def tries_again(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The errors after which the SDK itself tried again."""
    errors: list[str] = []
    original = Retrying.pause_s

    def counted(self: Retrying, attempt: int, error: SteelyardError, *rest: float) -> float | None:
        errors.append(repr(error))
        return original(self, attempt, error, *rest)

    monkeypatch.setattr(Retrying, "pause_s", counted)
    return errors


class TestRollingRestart:
    async def test_of_every_process_fails_no_call_and_loses_no_event(
        self, server_root: Path, tries_again: list[str]
    ) -> None:
        rollout, workload = Rollout(), generated(customers=CUSTOMERS, events=50, seed=SEED)
        settings = {"STEELYARD_TEST_CLOCKS": "1"}
        with Stack(server_root / "rolling", settings=settings, launcher=rollout, durable=False) as stack:
            async with rolled_out(stack, rollout) as endpoints:
                scenario = Scenario(
                    workload,
                    endpoints=endpoints,
                    operator_key=stack.endpoints().operator_key,
                    tenant_id="rolling",
                    seed=SEED,
                    report=lambda _text: None,
                    progress=lambda _count: None,
                )
                async with scenario.operator() as operator:
                    await scenario.set_up(operator)
                async with scenario.tenant() as asking:
                    key = asking._api_key
                    by_call, by_stream = (
                        Client(api_key=key, endpoints=endpoints, source="rolling", options=Options(stream=stream))
                        for stream in (False, True)
                    )
                    async with by_call, by_stream:
                        load = Load(workload)
                        async with asyncio.TaskGroup() as group:
                            for name, call in queries(asking, workload.customers[0]).items():
                                group.create_task(load.ask(name, call))
                            reports = [
                                group.create_task(load.record(by_call, "call")),
                                group.create_task(load.record(by_stream, "stream")),
                            ]
                            await rollout.replace_all(stack)
                            load.over.set()
                        await assert_nothing_happened(asking, load, [task.result() for task in reports])
        print(f"asked: {dict(load.asked)}; the SDK tried again {len(tries_again)} times: {Counter(tries_again)}")
        assert sorted(rollout.replaced) == sorted([*REPLICATED, *REPLICATED, *SINGLE])


async def assert_nothing_happened(client: Client, load: Load, reports: list[DeliveryReport]) -> None:
    """Every call had its answer, every event is recorded once, and all services agree."""
    assert load.failed == []
    assert min(load.asked.values()) > 100, load.asked
    assert [report.counts for report in reports] == [
        {Verdict.QUEUED: load.asked["call"]},
        {Verdict.QUEUED: load.asked["stream"]},
    ]
    period = period_pb2.Period()
    period.start.FromDatetime(load.workload.start)
    period.end.FromDatetime(load.workload.end)
    for _ in range(300):
        counts = await client.services.usage.GetEventCounts(usage_service_pb2.GetEventCountsRequest())
        checks = await all_checks(client, period)
        if counts.recorded == load.asked["call"] + load.asked["stream"] and all_ok(checks):
            break
        await asyncio.sleep(0.2)
    assert counts.recorded == load.asked["call"] + load.asked["stream"]
    assert counts.conflict == counts.rejected_at_door == counts.rejected_by_recorder == 0
    assert all_ok(checks), checks
