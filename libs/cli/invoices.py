"""steelyard invoices ..."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from libs.cli.connection import as_tenant, request_id
from libs.cli.output import (
    Columns,
    Format,
    Output,
    as_dict,
    instant,
    money,
    name_of,
    print_json,
    quantity,
    say,
    show,
    table,
)
from libs.cli.parsing import timestamp
from libs.cli.priced_windows import WINDOW_COLUMNS, explained
from steelyard import Client
from steelyard.billing.v1 import invoice_pb2, invoice_service_pb2
from steelyard.rating.v1 import charge_pb2, charge_service_pb2

app = typer.Typer(help="Invoices: list, show, preview, explain, void.", no_args_is_help=True)

COLUMNS: Columns = {
    "INVOICE": lambda invoice: invoice.invoice_id,
    "NUMBER": lambda invoice: invoice.invoice_number,
    "CUSTOMER": lambda invoice: invoice.customer_id,
    "PERIOD": lambda invoice: f"{instant(invoice.period.start)} to {instant(invoice.period.end)}",
    "TOTAL#": lambda invoice: f"{money(invoice.total)} {invoice.currency}",
    "STATE": lambda invoice: name_of(invoice_pb2.InvoiceState, invoice.state, "INVOICE_STATE"),
}
LINE_COLUMNS: Columns = {
    "LINE": lambda line: line.price_id,
    "METER": lambda line: line.meter_id or "-",
    "QUANTITY#": lambda line: quantity(line.quantity),
    "EXACT#": lambda line: quantity(line.exact_amount),
    "AMOUNT#": lambda line: money(line.amount),
}
PART_COLUMNS: Columns = {
    "LINE": lambda pair: pair[0],
    "PART": lambda pair: part_label(pair[1]),
    "QUANTITY#": lambda pair: quantity(pair[1].quantity),
    "UNIT#": lambda pair: unit_amount(pair[1]),
    "FLAT#": lambda pair: quantity(pair[1].flat_amount),
    "AMOUNT#": lambda pair: quantity(pair[1].amount),
}
USAGE_COLUMNS: Columns = {
    "FROM": lambda day: instant(day.period.start),
    "TO": lambda day: instant(day.period.end),
    "QUANTITY#": lambda day: quantity(day.quantity) if day.quantity else "-",
    "EVENTS#": lambda day: day.event_count,
    "WINDOWS#": lambda day: day.window_count,
}


PROGRESS_COLUMNS: Columns = {
    "PERIODS DUE#": lambda progress: progress.due_periods,
    "HELD BY": lambda progress: "; ".join(progress.holds) or "nothing",
}


class State(Enum):
    """What `--state` takes."""

    DRAFT = "draft"
    ISSUED = "issued"
    PAID = "paid"
    VOID = "void"


def part_label(part: charge_pb2.ChargePart) -> str:
    """Describe a part of a breakdown, for example "tier (100000, 1000000]"."""
    if part.label:
        return f"{part.kind} ({part.label})"
    if not part.from_quantity and not part.up_to_quantity:
        return part.kind
    return f"{part.kind} ({quantity(part.from_quantity) or 0}, {quantity(part.up_to_quantity) or 'open'}]"


def print_invoice(invoice: invoice_pb2.Invoice) -> None:
    """Print an invoice with its lines and how each came about."""
    heading = invoice.invoice_number or "preview"
    state = name_of(invoice_pb2.InvoiceState, invoice.state, "INVOICE_STATE")
    say(f"{heading} for {invoice.customer_id}, {state}", style="bold")
    say(f"period {instant(invoice.period.start)} to {instant(invoice.period.end)}")
    show(invoice.lines, LINE_COLUMNS, Format.TABLE)
    say(f"total {money(invoice.total)} {invoice.currency}", style="bold")
    show_parts([(line.price_id, part) for line in invoice.lines for part in line.parts])


def unit_amount(part: charge_pb2.ChargePart) -> str:
    """The amount for one unit, or for several if that is how the price is stated."""
    return f"{quantity(part.unit_amount)} / {quantity(part.per)}" if part.per else quantity(part.unit_amount)


def show_parts(parts: list[tuple[str, charge_pb2.ChargePart]]) -> None:
    """Print breakdowns, one row a part."""
    table(PART_COLUMNS.keys(), ([cell(pair) for cell in PART_COLUMNS.values()] for pair in parts), title="breakdown")


@app.command("waiting")
def waiting(output: Output = Format.TABLE) -> None:
    """Tell how many periods are over without an invoice, and what they wait for."""

    async def work(client: Client) -> invoice_service_pb2.GetBillingProgressResponse:
        return await client.services.invoices.GetBillingProgress(invoice_service_pb2.GetBillingProgressRequest())

    show([as_tenant(work)], PROGRESS_COLUMNS, output)


@app.command("list")
def list_invoices(
    customer: Annotated[str, typer.Option(help="only of this customer")] = "",
    state: Annotated[State | None, typer.Option(help="only in this state")] = None,
    output: Output = Format.TABLE,
) -> None:
    """List invoices, newest first."""
    wanted = invoice_pb2.InvoiceState.Value(f"INVOICE_STATE_{state.name if state else 'UNSPECIFIED'}")

    async def work(client: Client) -> list[invoice_pb2.Invoice]:
        return await all_invoices(client, customer_id=customer, state=wanted)

    show(as_tenant(work), COLUMNS, output)


async def all_invoices(
    client: Client,
    *,
    customer_id: str = "",
    state: invoice_pb2.InvoiceState.ValueType = invoice_pb2.INVOICE_STATE_UNSPECIFIED,
) -> list[invoice_pb2.Invoice]:
    """Read all pages."""
    invoices: list[invoice_pb2.Invoice] = []
    token = ""
    while True:
        page = await client.services.invoices.ListInvoices(
            invoice_service_pb2.ListInvoicesRequest(
                customer_id=customer_id, state=state, page_size=500, page_token=token
            )
        )
        invoices.extend(page.invoices)
        token = page.next_page_token
        if not token:
            return invoices


@app.command("show")
def show_invoice(invoice: str, output: Output = Format.TABLE) -> None:
    """Show one invoice, by id or number, with the breakdown of each line."""
    found = as_tenant(lambda client: _get(client, invoice))
    if output is Format.JSON:
        print_json(as_dict(found))
    else:
        print_invoice(found)


@app.command("preview")
def preview(
    subscription: str,
    at: Annotated[str | None, typer.Option(help="an instant inside the period; default: now")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Show a billing period's invoice as it would be issued now."""
    request = invoice_service_pb2.PreviewInvoiceRequest(subscription_id=subscription, at_time=timestamp(at, "--at"))

    async def work(client: Client) -> invoice_service_pb2.PreviewInvoiceResponse:
        return await client.services.invoices.PreviewInvoice(request)

    invoice = as_tenant(work).invoice
    if output is Format.JSON:
        print_json(as_dict(invoice))
    else:
        print_invoice(invoice)


@app.command("explain")
def explain(
    invoice: str,
    line: Annotated[str, typer.Argument(help="the line's price id")],
    output: Output = Format.TABLE,
) -> None:
    """Show the usage behind one line of an invoice, day by day, and how it was priced.

    It is the usage of the period as it is now: what came after the invoice was issued is in it, and is pointed out.
    """

    async def work(client: Client) -> tuple[invoice_pb2.Invoice, charge_service_pb2.ExplainChargeResponse]:
        found = await _get(client, invoice)
        key = charge_service_pb2.BillingPeriodKey(
            subscription_id=found.subscription_id, period_start=found.period.start
        )
        return found, await explained(client, charge_service_pb2.ExplainChargeRequest(key=key, price_id=line))

    found, response = as_tenant(work)
    invoiced = next((item for item in found.lines if item.price_id == line), None)
    if output is Format.JSON:
        print_json(as_dict(response) | {"invoiced": as_dict(invoiced) if invoiced else None})
        return
    charge = response.charge
    if invoiced and (invoiced.quantity, invoiced.exact_amount) != (charge.quantity, charge.amount):
        say(
            f"{found.invoice_number} has {quantity(invoiced.quantity)} for {money(invoiced.amount)} {found.currency}; "
            "the usage has changed since it was issued. As invoiced:"
        )
        show_parts([(line, part) for part in invoiced.parts])
        say("As it is now:")
    say(
        f"{charge.price_id}: {quantity(charge.quantity)} of {charge.meter_id or 'nothing metered'} is "
        f"{quantity(charge.amount)} {charge.currency}, by {charge.rate_card_id} version {charge.rate_card_version}"
    )
    show_parts([(charge.price_id, part) for part in charge.parts])
    show(response.usage, USAGE_COLUMNS, output, title="usage")
    if response.windows:
        show(response.windows, WINDOW_COLUMNS, output, title="windows")


@app.command("void")
def void(
    invoice: str,
    reason: Annotated[str, typer.Option(help="why")],
    reissue: Annotated[bool, typer.Option(help="invoice the period again")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Void an issued invoice that is not paid."""

    async def work(client: Client) -> invoice_service_pb2.VoidInvoiceResponse:
        found = await _get(client, invoice)
        return await client.services.invoices.VoidInvoice(
            invoice_service_pb2.VoidInvoiceRequest(
                request_id=request_id(), invoice_id=found.invoice_id, reason=reason, reissue=reissue
            )
        )

    show([as_tenant(work).invoice], COLUMNS, output)


async def _get(client: Client, invoice: str) -> invoice_pb2.Invoice:
    response = await client.services.invoices.GetInvoice(invoice_service_pb2.GetInvoiceRequest(invoice=invoice))
    return response.invoice
