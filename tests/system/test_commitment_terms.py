"""A commitment over three months from the card's file to three invoices, by the command line on a running stack."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.system.test_cli import CommandLine, eventually, lines_of, paid_invoices, quantities_of

METERS = "{meter_id: calls, event_type: call, aggregation: sum, expression: n}"
CARD = """
rate_card_id: quarter
currency: USD
prices:
- price_id: fee
  flat: {amount: 9.90}
- price_id: calls
  meter_id: calls
  per_unit: {unit_amount: 0.01}
  commitment: {amount: 100, periods: 3, overage_factor: 1.5}
"""


@pytest.fixture(scope="module")
def tenant(server_root: Path) -> Iterator[CommandLine]:
    """The shell of a tenant whose customer has agreed on a quarter, beside a stack of its own."""
    folder = server_root / "commitment-terms"
    folder.mkdir()
    shell = CommandLine(folder, {"STEELYARD_HOME": str(folder / "home")})
    try:
        shell.json("up")
        key = shell.json("tenants", "create", "quarterly", "--test-clock", "2026-01-20")["secret"]
        tenant = shell.having(STEELYARD_API_KEY=key)
        (folder / "meters.yaml").write_text(METERS)
        (folder / "card.yaml").write_text(CARD)
        tenant.table("meters", "apply", "-f", "meters.yaml")
        tenant.table("ratecards", "apply", "-f", "card.yaml")
        tenant.table("customers", "create", "cust-1")
        tenant.table("payments", "set-method", "cust-1", "tok_ok")
        tenant.json("subscriptions", "create", "cust-1", "quarter", "--start", "2026-01-01", "--id", "sub-1")
        yield tenant
    finally:
        shell.table("down")


def use(tenant: CommandLine, event_id: str, day: str, calls: int) -> None:
    event = {"event_id": event_id, "customer_id": "cust-1", "event_type": "call", "event_time": f"{day}T00:00:00Z"}
    (tenant.folder / "usage.jsonl").write_text(json.dumps(event | {"properties": {"n": calls}}) + "\n")
    assert tenant.table("events", "send", "usage.jsonl") == "1 recorded\n"


def invoice(tenant: CommandLine, count: int) -> Any:
    """The newest of so many invoices."""
    invoices = eventually(partial(paid_invoices, tenant, count))
    newest = max(invoices, key=lambda found: found["invoice_number"])
    return tenant.json("invoices", "show", newest["invoice_id"])


def parts_of(document: Any) -> dict[str, tuple[str, str, str]]:
    """Quantity, amount and label of the steps of the line of calls."""
    [line] = [line for line in document["lines"] if line["price_id"] == "calls"]
    return {part["kind"]: (part["quantity"], part["amount"], part.get("label", "")) for part in line["parts"]}


def test_three_months_are_invoiced_to_the_cent(tenant: CommandLine) -> None:
    use(tenant, "january", "2026-01-10", 3_000)
    tenant.table("tenants", "advance-clock", "quarterly", "2026-02-02")
    january = invoice(tenant, 1)
    assert lines_of(january) == {"fee": ("1", "9.90"), "calls": ("3000", "30.00")}
    assert parts_of(january)["term_used"] == ("0", "0", "period 1 of 3")

    # Late: January's invoice stays as it is, and March has that much less of the commitment left.
    use(tenant, "late", "2026-01-20", 333)
    use(tenant, "february", "2026-02-01", 5_000)
    tenant.table("tenants", "advance-clock", "quarterly", "2026-03-02")
    february = invoice(tenant, 2)
    assert lines_of(february) == {"fee": ("1", "9.90"), "calls": ("5000", "50.00")}
    assert parts_of(february)["term_used"] == ("33.33", "0", "period 2 of 3")
    assert "the usage has changed" in tenant.table("invoices", "explain", "INV-000001", "calls")
    assert lines_of(tenant.json("invoices", "show", january["invoice_id"])) == lines_of(january)

    use(tenant, "march", "2026-03-01", 6_000)
    eventually(lambda: quantities_of(tenant.json("invoices", "preview", "sub-1"))["calls"] == "6000")
    tenant.table("tenants", "advance-clock", "quarterly", "2026-04-02")
    march = invoice(tenant, 3)
    # 16.67 are left of 100, and 43.33 are above it: 16.67 + 64.995, rounded half to even.
    assert lines_of(march) == {"fee": ("1", "9.90"), "calls": ("6000", "81.66")}
    assert parts_of(march) == {
        "per_unit": ("6000", "60", ""),
        "term_used": ("83.33", "0", "period 3 of 3"),
        "term_left": ("16.67", "0", ""),
        "overage": ("43.33", "21.665", ""),
    }
    text = tenant.table("invoices", "explain", "INV-000003", "calls")
    assert "term_used (period 3 of 3)" in text
    assert all(check["ok"] for items in tenant.json("reconcile").values() for check in items)


def test_the_next_term_begins_anew_and_what_is_missing_is_due_at_its_end(tenant: CommandLine) -> None:
    for count, day in ((4, "2026-05-02"), (5, "2026-06-02"), (6, "2026-07-02")):
        tenant.table("tenants", "advance-clock", "quarterly", day)
        amount = "100.00" if count == 6 else "0.00"
        assert lines_of(invoice(tenant, count)) == {"fee": ("1", "9.90"), "calls": ("0", amount)}


def test_a_card_is_exported_and_previewed_with_its_term(tenant: CommandLine) -> None:
    assert "periods: 3" in tenant.table("ratecards", "export", "quarter")
    text, charges = tenant.both("ratecards", "preview", "quarter", "-q", "calls=12000")
    assert "term_used (period 1 of 3)" in text
    assert charges[1]["amount"] == "130"
    march = tenant.json("ratecards", "preview", "quarter", "-q", "calls=6000", "--term", "calls=3:83.33")
    assert march[1]["amount"] == "81.665"
    for term, code in (("fee=1:0", 4), ("calls=4:0", 4), ("calls=2:-1", 4), ("calls=x:1", 2)):
        assert tenant.run("ratecards", "preview", "quarter", "--term", term).code == code
    (tenant.folder / "wrong.yaml").write_text(CARD.replace("amount: 100", "quantity: 100"))
    done = tenant.run("ratecards", "apply", "-f", "wrong.yaml")
    assert (done.code, "commitment.periods" in done.err) == (4, True), done
