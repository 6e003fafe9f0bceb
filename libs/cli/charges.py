"""steelyard charges ..."""

from __future__ import annotations

import json
from contextlib import aclosing
from datetime import timedelta
from typing import Annotated

import typer

from libs.cli.connection import as_tenant
from libs.cli.invoices import show_parts
from libs.cli.output import Columns, Format, Output, as_dict, instant, quantity, say, show
from libs.cli.parsing import parse_date_or_instant, timestamp, zone_named
from libs.cli.reratings import rerate, reratings
from libs.clock import system_clock
from steelyard import ChargeUpdate, Client
from steelyard.rating.v1 import charge_pb2, charge_service_pb2

app = typer.Typer(help="Charges: what the usage of billing periods costs.", no_args_is_help=True)
app.command("rerate")(rerate)
app.command("reratings")(reratings)
COLUMNS: Columns = {
    "LINE": lambda charge: charge.price_id,
    "METER": lambda charge: charge.meter_id or "-",
    "QUANTITY#": lambda charge: quantity(charge.quantity),
    "AMOUNT#": lambda charge: f"{quantity(charge.amount)} {charge.currency}",
    "BY": lambda charge: f"{charge.rate_card_id} version {charge.rate_card_version}",
}


@app.command("list")
def list_charges(
    subscription: str,
    at: Annotated[
        str, typer.Option(help="an instant inside the billing period; default: now. Give a test clock's time")
    ] = "",
    known_at: Annotated[
        str | None, typer.Option(help="what was known at this instant (real time); default: what is known")
    ] = None,
    zone: Annotated[str, typer.Option(help="IANA zone of dates; default: UTC")] = "",
    output: Output = Format.TABLE,
) -> None:
    """Show the charges of a billing period of SUBSCRIPTION, step by step: as they are, or as they were known once.

    With --known-at, what came later does not count: usage, corrections, rate cards, overrides.
    """
    where = zone_named(zone, "--zone")
    start = timestamp(at or system_clock().isoformat(), "--at", where)
    request = charge_service_pb2.GetChargesRequest(
        key=charge_service_pb2.BillingPeriodKey(subscription_id=subscription, period_start=start),
        known_at=timestamp(known_at, "--known-at", where),
    )

    async def work(client: Client) -> charge_service_pb2.GetChargesResponse:
        return await client.services.charges.GetCharges(request)

    charges = as_tenant(work).charges
    show(charges, COLUMNS, output)
    if output is Format.TABLE:
        show_parts([(charge.price_id, part) for charge in charges for part in charge.parts])


@app.command("watch")
def watch(
    customers: Annotated[list[str] | None, typer.Argument(help="up to 100 customers; default: all")] = None,
    subscription: Annotated[
        list[str] | None, typer.Option(help="a subscription instead of customers; may be repeated")
    ] = None,
    every: Annotated[
        float, typer.Option(min=0, max=10, help="seconds between two lines of a charge at the least")
    ] = 0.2,
    ending_after: Annotated[
        str,
        typer.Option(help="all billing periods that end after it; default: those open now. Give a test clock's time"),
    ] = "",
    zone: Annotated[str, typer.Option(help="IANA zone of a date; default: UTC")] = "",
    once: Annotated[bool, typer.Option("--once", help="end when the present charges are shown")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Show the present charges of CUSTOMERS, and then a line for every change, until Ctrl-C.

    JSON is one charge per line. A server that restarts does not end it: what changed meanwhile is shown then.
    """
    try:
        after = parse_date_or_instant(ending_after, zone_named(zone, "--zone")) if ending_after else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--ending-after") from error

    async def work(client: Client) -> None:
        updates = client.watch_charges(
            customers or (),
            subscription_ids=subscription or (),
            min_interval=timedelta(seconds=every),
            ending_after=after,
        )
        async with aclosing(updates):
            async for update in updates:
                _show(update, output)
                if once and update.is_current:
                    return

    as_tenant(work)


def _show(update: ChargeUpdate, output: Format) -> None:
    for charge in update.charges:
        if output is Format.JSON:
            typer.echo(json.dumps(as_dict(charge), ensure_ascii=False))
        else:
            say(_line(charge))


def _line(charge: charge_pb2.Charge) -> str:
    period = f"{instant(charge.period.start)} to {instant(charge.period.end)}"
    amount = f"{quantity(charge.amount)} {charge.currency}"
    return f"{charge.customer_id} {charge.subscription_id} {period} {charge.price_id}: {charge.quantity} = {amount}"
