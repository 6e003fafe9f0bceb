"""A rolling restart of every service process under load: no call fails, no event is lost or counted twice.

Two replicas of everything that answers calls; a new one is ready for a moment before an old one is asked to stop, as a
Deployment with minReadySeconds does it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from libs.cli.demo.scenario import Scenario
from libs.cli.demo.workload import Workload, generated
from libs.cli.reconcile import all_checks, all_ok
from libs.embedded.stack import Stack
from steelyard import Client, DeliveryReport, Options, SteelyardError, Verdict
from steelyard.billing.v1 import customer_service_pb2, invoice_service_pb2, subscription_service_pb2
from steelyard.common.v1 import period_pb2
from steelyard.ingest.v1 import meter_service_pb2, usage_service_pb2
from steelyard.payments.v1 import ledger_service_pb2, payment_service_pb2
from steelyard.rating.v1 import rate_card_service_pb2
from steelyard.retry import Retrying
from tests.support.rollout import REPLICATED, SINGLE, Rollout, rolled_out

CUSTOMERS, SEED = 4, 3
# Callers of a service that never rest while one of its processes stops: without them no call happens to be on its way
# to it in the moment in which it closes, and the pause before that (DRAIN) could be missing unnoticed.
CROWD = 40


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

    async def crowd(self, name: str, call: Callable[[], Awaitable[object]], is_stopping: Callable[[], bool]) -> None:
        """Ask without a rest while a process of the service is stopping."""
        while not self.over.is_set():
            if not is_stopping():
                await asyncio.sleep(0.05)
                continue
            try:
                await call()
            except SteelyardError as error:
                self.failed.append(f"{name}: {error!r}")
            self.asked[f"{name} (crowd)"] += 1

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


CHEAP = {"ingest-query": "meters", "rating": "rate cards", "billing": "customer", "payments": "ledger"}
"""By service, the call that a crowd makes."""


def start_asking(group: asyncio.TaskGroup, load: Load, client: Client, rollout: Rollout) -> None:
    """Ask all services all the time, and in crowds while a process stops."""
    calls = queries(client, load.workload.customers[0])
    for name, call in calls.items():
        group.create_task(load.ask(name, call))
    for service, name in CHEAP.items():
        for _ in range(CROWD):
            group.create_task(load.crowd(name, calls[name], lambda its=service: rollout.stopping == its))  # type: ignore[misc]


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
                            start_asking(group, load, asking, rollout)
                            reports = [
                                group.create_task(load.record(by_call, "call")),
                                group.create_task(load.record(by_stream, "stream")),
                            ]
                            await rollout.replace_all(stack)
                            load.over.set()
                        await assert_nothing_happened(asking, load, [task.result() for task in reports])
        print(f"asked: {dict(load.asked)}; the SDK tried again {len(tries_again)} times: {Counter(tries_again)}")
        assert sorted(rollout.replaced) == sorted([*REPLICATED, *REPLICATED, *SINGLE])


class TestTheLoad:
    async def test_meets_a_server_that_stops_without_a_pause(self, server_root: Path) -> None:
        """The planted defect: if this finds no failed call, the test above proves nothing."""
        rollout, workload = Rollout(), generated(customers=CUSTOMERS, events=1, seed=SEED)
        settings = {"STEELYARD_TEST_CLOCKS": "1", "DRAIN": "0"}
        with Stack(server_root / "abrupt", settings=settings, launcher=rollout, durable=False) as stack:
            async with rolled_out(stack, rollout) as endpoints:
                scenario = Scenario(
                    workload,
                    endpoints=endpoints,
                    operator_key=stack.endpoints().operator_key,
                    tenant_id="abrupt",
                    seed=SEED,
                    report=lambda _text: None,
                    progress=lambda _count: None,
                )
                async with scenario.operator() as operator:
                    await scenario.set_up(operator)
                load = Load(workload)
                async with scenario.tenant() as asking, asyncio.TaskGroup() as group:
                    start_asking(group, load, asking, rollout)
                    for name in CHEAP:
                        if not load.failed:
                            await rollout.replace(stack, name)
                    load.over.set()
        print(f"asked: {dict(load.asked)}; replaced {rollout.replaced}; failed: {Counter(load.failed)}")
        assert load.failed


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
