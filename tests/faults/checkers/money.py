"""Checkers of money: charges, invoices and payments against an independent computation, and the ledger."""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import ROUND_HALF_EVEN, Decimal

from tests.faults.checkers.evidence import BillingState, Evidence, PaymentsState
from tests.faults.checkers.sent import counted
from tests.faults.driver.workload import CUSTOMERS
from tests.support.oracle import Bill, Use, add_up, bill

_CENT = Decimal("0.01")


def charges(evidence: Evidence) -> list[str]:
    """Charges are what the events of the history cost, by the pencil-and-paper computation."""
    problems = []
    stored = {(row["tenant_id"], row["customer_id"], row["price_id"]): row for row in evidence.rating.charges}
    for (tenant, customer), expected in _bills(evidence).items():
        for price, (quantity, amount) in expected.lines.items():
            row = stored.get((tenant, customer, price))
            found = (row["quantity"], _rounded(row["amount"])) if row else None
            if found != (Decimal(quantity), Decimal(amount)):
                problems.append(f"{tenant} {customer} {price}: charge {found} instead of {quantity} for {amount}")
    return problems


def invoices(evidence: Evidence) -> list[str]:
    """Guarantee 4: one invoice per period, over exactly what its usage costs, and numbers without gaps."""
    billing = _closed(evidence)
    problems = []
    lines: dict[tuple[str, str], dict[str, tuple[Decimal, int]]] = defaultdict(dict)
    for row in billing.lines:
        lines[row["tenant_id"], row["invoice_id"]][row["price_id"]] = (row["quantity"], row["amount_minor"])
    valid = [row for row in billing.invoices if row["state"] != "void"]
    per_period = Counter((row["tenant_id"], row["customer_id"]) for row in valid)
    for key, expected in _bills(evidence).items():
        if per_period[key] != 1:
            problems.append(f"{key}: {per_period[key]} invoices for the period")
        for row in valid:
            if (row["tenant_id"], row["customer_id"]) == key:
                problems += _invoice_differs(key, row["total_minor"], lines[key[0], row["invoice_id"]], expected)
    for row in billing.numbers:
        if row["highest"] - row["lowest"] + 1 != row["count"]:
            problems.append(f"{row['tenant_id']}: {row['count']} numbers from {row['lowest']} to {row['highest']}")
    return problems


def payments(evidence: Evidence) -> list[str]:
    """Guarantee 4: each invoice is captured once and in full, by the gateway's own record, and ours says the same; no
    call without a stored key, and no amount ever changed under a key."""
    billing, stored = _closed(evidence), _collected(evidence)
    problems = []
    captures: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in stored.gateway:
        if row["outcome"] == "captured":
            captures[row["tenant_id"], row["invoice_id"]].append(row["amount"])
    for row in billing.invoices:
        key = (row["tenant_id"], row["invoice_id"])
        if row["state"] != "void" and captures[key] != [row["total_minor"]]:
            problems.append(f"{key} over {row['total_minor']}: the gateway captured {captures[key]}")
        if row["state"] != "paid":
            problems.append(f"{key} is {row['state']}")
    problems += [
        f"{row['invoice_id']}: {row['captured']} of {row['total']} captured by our books"
        for row in stored.invoices
        if row["captured"] != row["total"]
    ]
    keys = {(row["tenant_id"], row["idempotency_key"]): row["amount"] for row in stored.attempts}
    problems += [
        f"{row['idempotency_key']}: the gateway knows a call that we have not stored like this"
        for row in stored.gateway
        if keys.get((row["tenant_id"], row["idempotency_key"])) != row["amount"]
    ]
    return problems


def ledger(evidence: Evidence) -> list[str]:
    """Guarantee 4: every transaction balances, the ledger is zero, nobody owes what is paid, and the gateway's account
    is what the gateway captured."""
    stored = _collected(evidence)
    per_transaction: Counter[tuple[str, str, str]] = Counter()
    receivable: Counter[tuple[str, str]] = Counter()
    gateway: Counter[str] = Counter()
    for row in stored.entries:
        per_transaction[row["tenant_id"], row["transaction_id"], row["currency"]] += row["amount"]
        receivable[row["tenant_id"], row["invoice_id"]] += row["amount"] if row["account"] == "receivable" else 0
        gateway[row["tenant_id"]] += row["amount"] if row["account"] == "gateway" else 0
    captured: Counter[str] = Counter()
    for row in stored.gateway:
        captured[row["tenant_id"]] += row["amount"] if row["outcome"] == "captured" else 0
    return [
        *(f"{key} is off by {amount}" for key, amount in per_transaction.items() if amount),
        *(f"{key} is still owed {amount}" for key, amount in receivable.items() if amount),
        *(
            f"{tenant}: the gateway captured {captured[tenant]}, the books say {gateway[tenant]}"
            for tenant in evidence.tenants
            if captured[tenant] != gateway[tenant]
        ),
    ]


def _invoice_differs(
    key: tuple[str, str], total_minor: int, lines: dict[str, tuple[Decimal, int]], expected: Bill
) -> list[str]:
    wanted = {name: (Decimal(q), int(Decimal(amount) * 100)) for name, (q, amount) in expected.lines.items()}
    problems = [
        f"{key} {name}: line {lines.get(name)} instead of {wanted.get(name)}"
        for name in sorted(lines.keys() | wanted.keys())
        if lines.get(name) != wanted.get(name)
    ]
    if total_minor != sum(amount for _, amount in lines.values()) or total_minor != int(Decimal(expected.total) * 100):
        problems.append(f"{key}: total {total_minor} instead of {expected.total}")
    return problems


def _bills(evidence: Evidence) -> dict[tuple[str, str], Bill]:
    """What each customer's month costs, from the history alone."""
    events = counted(evidence.records, evidence.ingest)
    bills: dict[tuple[str, str], Bill] = {}
    for tenant in evidence.tenants:
        own = [event for (owner, _), event in events.items() if owner == tenant]
        uses = add_up((event["customer"], int(event["input"]), int(event["output"])) for event in own)
        bills |= {(tenant, customer): bill(uses.get(customer, Use())) for customer in CUSTOMERS}
    return bills


def _rounded(amount: Decimal) -> Decimal:
    return amount.quantize(_CENT, ROUND_HALF_EVEN)


def _closed(evidence: Evidence) -> BillingState:
    if evidence.billing is None:
        raise ValueError("the month was not closed: there is nothing to judge")
    return evidence.billing


def _collected(evidence: Evidence) -> PaymentsState:
    if evidence.payments is None:
        raise ValueError("the month was not closed: there is nothing to judge")
    return evidence.payments
