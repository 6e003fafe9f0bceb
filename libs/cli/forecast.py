"""steelyard subscriptions forecast: what a billing period will cost at its end."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from libs.cli.connection import as_tenant
from libs.cli.output import Columns, Format, Output, as_dict, instant, money, print_json, quantity, say, table
from libs.cli.parsing import timestamp, zone_named
from libs.clock import system_clock
from steelyard import Client
from steelyard.common.v1 import money_pb2
from steelyard.rating.v1 import charge_service_pb2 as pb

COLUMNS: Columns = {
    "LINE": lambda line: line.price_id,
    "METHOD": lambda line: line.method.replace("_", " "),
    "SO FAR#": lambda line: quantity(line.quantity_so_far),
    "EXPECTED#": lambda line: quantity(line.expected_quantity),
    "FROM#": lambda line: quantity(line.low_quantity),
    "TO#": lambda line: quantity(line.high_quantity),
    "AMOUNT MINOR#": lambda line: line.expected_minor,
}


def forecast(
    subscription: str,
    as_of: Annotated[
        str, typer.Option(help="what was used before it is known; default: now. Give a test clock's time")
    ] = "",
    zone: Annotated[str, typer.Option(help="IANA zone of a date; default: UTC")] = "",
    output: Output = Format.TABLE,
) -> None:
    """Estimate what the billing period of SUBSCRIPTION that contains an instant will cost at its end."""
    at = timestamp(as_of or _now(), "--as-of", zone_named(zone, "--zone"))
    key = pb.BillingPeriodKey(subscription_id=subscription, period_start=at)

    async def work(client: Client) -> pb.ForecastChargesResponse:
        return await client.services.charges.ForecastCharges(pb.ForecastChargesRequest(key=key, as_of=at))

    found = as_tenant(work)
    if output is Format.JSON:
        print_json(as_dict(found))
        return
    so_far, expected, low, high = (
        money(money_pb2.Money(minor_units=amount, currency=found.currency))
        for amount in (found.so_far_minor, found.expected_minor, found.low_minor, found.high_minor)
    )
    say(f"as of {instant(found.as_of)}: {so_far} {found.currency} so far, {expected} expected, {low} to {high}")
    table(COLUMNS.keys(), ([cell(line) for cell in COLUMNS.values()] for line in found.lines))
    say(f"from and to: {found.interval_percent} of 100 cases, if days go on as they did")


def _now() -> str:
    now: datetime = system_clock()
    return now.astimezone(UTC).isoformat()
