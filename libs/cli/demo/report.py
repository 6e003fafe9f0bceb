"""The demo's end screen and its JSON."""

from __future__ import annotations

from typing import Any

from libs.cli.demo.scenario import Outcome
from libs.cli.invoices import print_invoice
from libs.cli.output import CONSOLE, instant, money, name_of, quantity, table
from libs.cli.reconcile import all_ok, print_checks
from steelyard.billing.v1 import invoice_pb2
from steelyard.payments.v1 import payment_pb2


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return the result: decimal strings for quantities and amounts, integers for counts."""
    counts = outcome.counts
    return {
        "period": {"start": outcome.workload.start.isoformat(), "end": outcome.workload.end.isoformat()},
        "events": event_counts(outcome),
        "invoices": [
            {
                "number": invoice.invoice_number,
                "customer": invoice.customer_id,
                "currency": invoice.currency,
                "lines": [
                    {"name": line.price_id, "quantity": quantity(line.quantity), "amount": money(line.amount)}
                    for line in invoice.lines
                ],
                "total": money(invoice.total),
                "status": name_of(invoice_pb2.InvoiceState, invoice.state, "INVOICE_STATE"),
            }
            for invoice in outcome.invoices
        ],
        "ledger": {
            "balanced": outcome.ledger.balanced,
            "transactions": outcome.ledger.transaction_count,
            "balances": {item.account: money(item.balance) for item in outcome.ledger.balances},
        },
        "reconciliation": {
            "ok": all_ok(outcome.checks),
            "unassigned_events": counts.unassigned,
            "checks": [
                {"service": service, "name": check.name, "left": check.left, "right": check.right, "ok": check.ok}
                for service, checks in outcome.checks.items()
                for check in checks
            ],
        },
        "trace_id": trace_id(outcome),
        "stages_s": {name: f"{seconds:.2f}" for name, seconds in outcome.stages_s.items()},
    }


def event_counts(outcome: Outcome) -> dict[str, int]:
    """Return what became of all that was sent; sent = recorded + duplicate + conflict + rejected."""
    counts = outcome.counts
    return {
        "sent": counts.sent,
        "accepted": counts.accepted,
        "recorded": counts.recorded,
        "duplicate": counts.duplicate,
        "conflict": counts.conflict,
        "rejected": counts.rejected_at_door + counts.rejected_by_recorder,
    }


def trace_id(outcome: Outcome) -> str:
    """Return a trace that runs from a usage event to a payment: that of the invoice shown, "" without any."""
    parents = [line.trace_parent for line in _shown(outcome).lines if line.trace_parent]
    return parents[0].split("-")[1] if parents else ""


def _shown(outcome: Outcome) -> invoice_pb2.Invoice:
    """The invoice to be shown in full: the largest, because it reaches the most tiers."""
    return max(outcome.invoices, key=lambda invoice: invoice.total.minor_units)


def print_outcome(outcome: Outcome) -> None:
    """Print the end screen."""
    tries = {payment.invoice_id: payment for payment in outcome.payments}
    rows = []
    for invoice in outcome.invoices:
        amounts = {line.price_id: money(line.amount) for line in invoice.lines}
        payment = tries.get(invoice.invoice_id, payment_pb2.Payment())
        state = name_of(invoice_pb2.InvoiceState, invoice.state, "INVOICE_STATE")
        tail = (money(invoice.total), state, len(payment.attempts))
        rows.append((invoice.invoice_number, invoice.customer_id, *amounts.values(), *tail))
    lines = [f"{line.price_id}#" for line in outcome.invoices[0].lines]
    CONSOLE.print()
    table(["INVOICE", "CUSTOMER", *lines, "TOTAL#", "STATE", "TRIES#"], rows, title="invoices")
    CONSOLE.print("\n[bold]One invoice in full[/]")
    print_invoice(_shown(outcome))
    CONSOLE.print("\n[bold]Reconciliation[/]")
    print_checks(outcome.checks)
    _print_conservation(outcome)
    _print_stages(outcome)


def _print_conservation(outcome: Outcome) -> None:
    counts = event_counts(outcome)
    total = counts["recorded"] + counts["duplicate"] + counts["conflict"] + counts["rejected"]
    sign = "=" if counts["sent"] == total else "!="
    parts = " + ".join(f"{counts[name]:,} {name}" for name in ("recorded", "duplicate", "conflict", "rejected"))
    CONSOLE.print(f"\n[bold]Conservation[/]  {counts['sent']:,} sent {sign} {parts}", highlight=False)
    ledger = "balanced" if outcome.ledger.balanced else "NOT BALANCED"
    verdict = "everything agrees" if all_ok(outcome.checks) else "[bold red]something differs[/]"
    CONSOLE.print(f"Ledger {ledger} over {outcome.ledger.transaction_count} transactions; {verdict}", highlight=False)
    CONSOLE.print(f"Trace {trace_id(outcome)} runs from a usage event to a payment", highlight=False)


def _print_stages(outcome: Outcome) -> None:
    CONSOLE.print()
    rows = [(name, f"{seconds:.1f} s") for name, seconds in outcome.stages_s.items()]
    table(["STAGE", "TIME#"], rows)
    period = f"{instant(outcome.invoices[0].period.start)} to {instant(outcome.invoices[0].period.end)}"
    CONSOLE.print(f"period {period}", highlight=False)
