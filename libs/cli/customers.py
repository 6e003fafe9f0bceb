"""steelyard customers ..."""

from __future__ import annotations

from typing import Annotated

import typer

from libs.cli.connection import as_tenant, request_id
from libs.cli.invoices import LINE_COLUMNS
from libs.cli.output import Format, Output, as_dict, instant, money, print_json, say, show
from steelyard import Client
from steelyard.billing.v1 import customer_service_pb2, invoice_service_pb2

app = typer.Typer(help="Customers and what they spend.", no_args_is_help=True)

COLUMNS = {
    "CUSTOMER": lambda customer: customer.customer_id,
    "NAME": lambda customer: customer.display_name,
    "ZONE": lambda customer: customer.time_zone or "UTC",
    "CREATED": lambda customer: instant(customer.create_time),
}


@app.command("create")
def create(
    customer_id: str,
    name: Annotated[str, typer.Option(help="name for people")] = "",
    zone: Annotated[str, typer.Option(help="IANA zone of its billing periods")] = "",
    output: Output = Format.TABLE,
) -> None:
    """Create a customer."""
    customer = customer_service_pb2.Customer(customer_id=customer_id, display_name=name or customer_id, time_zone=zone)

    async def work(client: Client) -> customer_service_pb2.CreateCustomerResponse:
        return await client.services.customers.CreateCustomer(
            customer_service_pb2.CreateCustomerRequest(request_id=request_id(), customer=customer)
        )

    show([as_tenant(work).customer], COLUMNS, output)


@app.command("list")
def list_customers(output: Output = Format.TABLE) -> None:
    """List customers."""

    async def work(client: Client) -> list[customer_service_pb2.Customer]:
        customers: list[customer_service_pb2.Customer] = []
        token = ""
        while True:
            page = await client.services.customers.ListCustomers(
                customer_service_pb2.ListCustomersRequest(page_size=1000, page_token=token)
            )
            customers.extend(page.customers)
            token = page.next_page_token
            if not token:
                return customers

    show(as_tenant(work), COLUMNS, output)


@app.command("spend")
def spend(customer_id: str, output: Output = Format.TABLE) -> None:
    """Show what a customer has used in its open billing periods, and what it costs."""

    async def work(client: Client) -> invoice_service_pb2.GetCurrentSpendResponse:
        return await client.services.invoices.GetCurrentSpend(
            invoice_service_pb2.GetCurrentSpendRequest(customer_id=customer_id)
        )

    response = as_tenant(work)
    if output is Format.JSON:
        print_json(as_dict(response))
        return
    for entry in response.subscriptions:
        period = f"{instant(entry.period.start)} to {instant(entry.period.end)}"
        show(entry.lines, LINE_COLUMNS, output, title=f"{entry.subscription_id}, {period}")
        known = "all that is recorded" if entry.live else f"as rated; all from before {instant(entry.watermark_time)}"
        say(f"total {money(entry.total)} {entry.total.currency}; {known}")
    if not response.subscriptions:
        say(f"{customer_id} has no open billing period")
