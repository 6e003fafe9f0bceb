"""`kill -9` of everything, once each, under load: the totals and the bills are what they would have been anyway.

A killed service is started again, as its supervisor would; so is one that ends because its database went away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.cli.demo.report import event_counts
from libs.cli.demo.scenario import Outcome, Scenario
from libs.cli.demo.workload import Workload, generated
from libs.cli.output import money
from libs.cli.reconcile import all_ok
from libs.embedded.stack import Stack
from steelyard import Endpoints
from tests.support.oracle import add_up, bill

CUSTOMERS, EVENTS, SEED = 8, 20_000, 5
INGEST = ("ingest-accept", "ingest-record", "ingest-query", "ingest-maintain")
DOWNSTREAM = ("rating", "billing", "payments")


@pytest.fixture(scope="module")
def stack(server_root: Path) -> Iterator[Stack]:
    root = server_root / "crashes"
    with Stack(root, settings={"STEELYARD_TEST_CLOCKS": "1"}) as running:
        yield running


async def kill_and_start_again(stack: Stack, *names: str) -> None:
    """Kill service processes without warning, and start whatever does not run."""
    for name in names:
        stack.services.child(name).kill()
    await start_the_dead(stack)


async def start_the_dead(stack: Stack) -> None:
    """Start every service that does not run, as a supervisor would."""
    for name in stack.services.names:
        if not stack.services.child(name).running:
            await asyncio.to_thread(stack.services.start, name)


async def kill_servers(stack: Stack) -> None:
    """Kill PostgreSQL, then NATS, and start each again on its data."""
    for server in (stack.postgres, stack.nats):
        assert server is not None
        server.kill()
        await asyncio.sleep(1)
        await asyncio.to_thread(server.start)
        await asyncio.sleep(1)
        await start_the_dead(stack)


class Faults:
    """Keeps events flowing as long as faults happen: the last tenth waits for the end of the faults."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    async def pace(self, sent: int) -> None:
        if sent >= EVENTS * 9 // 10:
            await self.over.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), 3)


@pytest.mark.slow
class TestKilledUnderLoad:
    async def test_ends_in_the_same_totals_and_bills(self, stack: Stack) -> None:
        workload = generated(customers=CUSTOMERS, events=EVENTS, seed=SEED)
        where = stack.endpoints()
        scenario = Scenario(
            workload,
            endpoints=Endpoints(where.ingest, where.ingest_query, where.rating, where.billing, where.payments),
            operator_key=where.operator_key,
            tenant_id="crashes",
            seed=SEED,
            report=lambda _text: None,
            progress=lambda _count: None,
        )
        async with scenario.operator() as operator:
            await scenario.set_up(operator)
            async with scenario.tenant() as client:
                faults = Faults()
                sending = asyncio.create_task(scenario.send_usage(client, pace=faults.pace))
                for name in (*INGEST, *DOWNSTREAM):
                    await kill_and_start_again(stack, name)
                await kill_servers(stack)
                faults.over.set()
                await sending
                closing = asyncio.create_task(scenario.close_month(operator, client))
                await kill_and_start_again(stack, *DOWNSTREAM)
                await closing
                collecting = asyncio.create_task(scenario.collect(operator, client))
                await kill_and_start_again(stack, "payments")
                await collecting
                outcome = await scenario.look_at_results(client)
        assert_same_as_ever(outcome, workload)


def assert_same_as_ever(outcome: Outcome, workload: Workload) -> None:
    """Every event once, every bill to the cent, one payment each, and all four services agree."""
    counts = event_counts(outcome)
    assert counts["recorded"] == EVENTS
    # Batches that were sent again after a crash count as duplicates: at least what was resent on purpose.
    assert counts["duplicate"] >= len(workload.resent)
    assert counts["conflict"] == len(workload.conflicts)
    uses = add_up(
        (event.customer_id, int(event.properties["input_tokens"]), int(event.properties["output_tokens"]))
        for event in workload.originals
    )
    assert len(outcome.invoices) == CUSTOMERS
    for invoice in outcome.invoices:
        expected = bill(uses[invoice.customer_id])
        assert {line.price_id: money(line.amount) for line in invoice.lines} == {
            name: amount for name, (_, amount) in expected.lines.items()
        }
    captured = [attempt for payment in outcome.payments for attempt in payment.attempts if attempt.gateway_charge_id]
    assert len([payment for payment in outcome.payments if payment.attempts]) == CUSTOMERS
    assert len(captured) >= CUSTOMERS
    assert outcome.ledger.balanced
    assert all_ok(outcome.checks), outcome.checks
