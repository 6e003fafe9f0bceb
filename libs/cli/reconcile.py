"""steelyard reconcile: every equation between the four services."""

from __future__ import annotations

from typing import Annotated

import typer

from libs.cli.connection import as_tenant
from libs.cli.output import ERRORS, EXIT_NO, Format, Output, as_dict, print_json, say, table
from libs.cli.parsing import timestamp
from steelyard import Client
from steelyard.billing.v1 import reconciliation_service_pb2 as billing_pb2
from steelyard.common.v1 import period_pb2, reconciliation_pb2
from steelyard.ingest.v1 import reconciliation_service_pb2 as ingest_pb2
from steelyard.payments.v1 import reconciliation_service_pb2 as payments_pb2
from steelyard.rating.v1 import reconciliation_service_pb2 as rating_pb2

Checks = dict[str, list[reconciliation_pb2.ReconciliationCheck]]


async def all_checks(client: Client, period: period_pb2.Period | None) -> Checks:
    """Ask each service for its checks; the keys are the services, in the order of the money's way."""
    services = client.services
    ingest = await services.ingest_reconciliation.Reconcile(ingest_pb2.ReconcileRequest(period=period), timeout=120)
    rating = await services.rating_reconciliation.Reconcile(rating_pb2.ReconcileRequest(period=period), timeout=120)
    billing = await services.billing_reconciliation.Reconcile(billing_pb2.ReconcileRequest(period=period), timeout=120)
    payments = await services.payments_reconciliation.Reconcile(
        payments_pb2.ReconcileRequest(period=period), timeout=120
    )
    return {
        "ingest": list(ingest.checks),
        "rating": list(rating.checks),
        "billing": list(billing.checks),
        "payments": list(payments.checks),
    }


def all_ok(checks: Checks) -> bool:
    """Whether every check was made and holds."""
    return all(items and all(check.ok for check in items) for items in checks.values())


def print_checks(checks: Checks) -> None:
    """Print the checks, and below them what differs."""
    rows = [
        (service, check.name, check.left, check.right, "ok" if check.ok else "DIFFERS")
        for service, items in checks.items()
        for check in items
    ]
    table(("SERVICE", "CHECK", "LEFT#", "RIGHT#", ""), rows)
    differences = [
        (service, check.name, item.subject, item.left or "missing", item.right or "missing")
        for service, items in checks.items()
        for check in items
        for item in check.differences
    ]
    if differences:
        table(("SERVICE", "CHECK", "ABOUT", "LEFT#", "RIGHT#"), differences, title="differences")


def reconcile(
    start: Annotated[str | None, typer.Option(help="only billing periods that start at or after it")] = None,
    end: Annotated[str | None, typer.Option(help="and before it")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Check that usage, charges, invoices, payments and ledger agree; exit code 1 if anything differs."""
    if (start is None) != (end is None):
        raise typer.BadParameter("give --start and --end together")
    period = None
    if start is not None:
        period = period_pb2.Period(start=timestamp(start, "--start"), end=timestamp(end, "--end"))
    with ERRORS.status("comparing"):
        checks = as_tenant(lambda client: all_checks(client, period))
    agrees = all_ok(checks)
    if output is Format.JSON:
        print_json({service: [as_dict(check) for check in items] for service, items in checks.items()})
    else:
        print_checks(checks)
        say("everything agrees" if agrees else "something differs", style="" if agrees else "bold red")
    if not agrees:
        raise typer.Exit(EXIT_NO)
