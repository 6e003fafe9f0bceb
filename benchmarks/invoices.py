"""Invoices issued per second when the periods of all subscriptions end at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from benchmarks.bare_tables import Source, copy_s
from benchmarks.machine import CpuMeter
from benchmarks.report import Figure, Report
from benchmarks.sender import BenchmarkError, in_flight
from benchmarks.system import (
    TENANT,
    Tenant,
    new_id,
    new_tenant,
    operator,
    postgres_url,
    running_stack,
    say,
    stamp,
    until,
    until_rated,
    until_recorded,
)
from benchmarks.workload import PERIOD_END, Workload
from libs.cli.invoices import all_invoices
from libs.clock import monotonic_s
from libs.embedded.stack import Stack
from steelyard.billing.v1 import invoice_service_pb2, tenant_service_pb2

_WORKLOAD = Workload(events=20_000, customers=2_000)
_GRACE = timedelta(hours=1)  # A tenant's default.
_IN_FLIGHT = 8
_POLL_S = 0.05
_FLOOR_INVOICES_PER_TRANSACTION = 200
_FLOOR_IS = "COPY of the same invoice and line rows into the same tables, services stopped"
_TABLES = (
    Source("invoices", "t.number_value"),
    Source("invoice_lines", "(SELECT i.number_value FROM public.invoices i WHERE i.invoice_id = t.invoice_id)"),
)


def run(scale: float) -> Report:
    """Measure from AdvanceClock past the period's end until every customer has its invoice."""
    workload = _WORKLOAD.scaled(scale)
    with running_stack() as stack:
        elapsed_s, cpu_s = asyncio.run(_measure(stack, workload))
        stack.services.stop()
        say("writing the same rows without us")
        transactions = max(1, workload.customers // _FLOOR_INVOICES_PER_TRANSACTION)
        floor_s = asyncio.run(copy_s(postgres_url(stack, "billing"), _TABLES, transactions))
    invoices = workload.customers
    return Report(
        benchmark="invoices",
        figures=[Figure("invoices issued", invoices / elapsed_s, "invoices/s", invoices / floor_s, _FLOOR_IS)],
        settings={"subscriptions": invoices, "lines_per_invoice": 5, "floor_transactions": transactions},
        workload=workload.facts(),
        elapsed_s=elapsed_s,
        cpu_s=cpu_s,
    )


async def _measure(stack: Stack, workload: Workload) -> tuple[float, dict[str, float]]:
    async with new_tenant(stack, workload.customer_ids()) as tenant, operator(stack) as by_operator:
        await in_flight(workload.requests(), _IN_FLIGHT, tenant.sender)
        await until_recorded(tenant.client, workload.events)
        await until_rated(tenant.client)
        say(f"ending the periods of {workload.customers} subscriptions")
        cpu, began_s = CpuMeter(stack), monotonic_s()
        await by_operator.services.tenants.AdvanceClock(
            tenant_service_pb2.AdvanceClockRequest(
                request_id=new_id(), tenant_id=TENANT, time=stamp(PERIOD_END + _GRACE + timedelta(seconds=1))
            )
        )
        ended_s = await _until_issued(tenant)
        cpu_s = cpu.used_s()
        issued = len(await all_invoices(tenant.client))
        if issued != workload.customers:
            raise BenchmarkError(f"{issued} invoices were issued to {workload.customers} customers")
        return ended_s - began_s, cpu_s


async def _until_issued(tenant: Tenant) -> float:
    asked = invoice_service_pb2.GetBillingProgressRequest()

    async def issued() -> bool:
        return (await tenant.client.services.invoices.GetBillingProgress(asked)).due_periods == 0

    return await until(issued, "all invoices are issued", poll_s=_POLL_S)
