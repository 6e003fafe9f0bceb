"""steelyard ratecards preview: what quantities would cost."""

from __future__ import annotations

from typing import Annotated

import typer

from libs.cli.connection import as_tenant
from libs.cli.invoices import show_parts
from libs.cli.output import Columns, Format, Output, quantity, show
from libs.cli.parsing import MAX_INT32, pairs, timestamp, zone_named
from steelyard import Client
from steelyard.common.v1 import period_pb2
from steelyard.rating.v1 import charge_service_pb2

_MAX_COUNT_DIGITS = 18
_MAX_PLACE_DIGITS = 9

_COLUMNS: Columns = {
    "LINE": lambda charge: charge.price_id,
    "METER": lambda charge: charge.meter_id or "-",
    "QUANTITY#": lambda charge: quantity(charge.quantity),
    "AMOUNT#": lambda charge: f"{quantity(charge.amount)} {charge.currency}",
}


def preview(
    rate_card: str,
    quantities: Annotated[list[str] | None, typer.Option("--quantity", "-q", help="meter=quantity")] = None,
    events: Annotated[
        list[str] | None, typer.Option("--events", "-e", help="meter=number, for prices with an amount for each event")
    ] = None,
    by_dimensions: Annotated[
        list[str] | None, typer.Option("--by", "-b", help="meter=quantity:name=value,..., for prices by dimensions")
    ] = None,
    period: Annotated[
        str | None, typer.Option(help="FROM/TO, the part of a billing period that is priced; TO is exclusive")
    ] = None,
    whole: Annotated[str | None, typer.Option(help="FROM/TO, the billing period that --period is a part of")] = None,
    zone: Annotated[str, typer.Option("--zone", "-z", help="whose days count, and begin at midnight")] = "UTC",
    terms: Annotated[
        list[str] | None,
        typer.Option("--term", help="price=number:used, which billing period of a commitment over several it is"),
    ] = None,
    currency: Annotated[str, typer.Option(help="one of the card's; default: its first")] = "",
    version: Annotated[int, typer.Option(min=0, max=MAX_INT32, help="0 means the newest")] = 0,
    output: Output = Format.TABLE,
) -> None:
    """Show what quantities would cost, step by step."""
    request = charge_service_pb2.PreviewChargeRequest(
        rate_card_id=rate_card,
        rate_card_version=version,
        quantities=pairs(quantities or [], "--quantity"),
        by_dimensions=list(map(_by_dimensions, by_dimensions or [])),
        event_counts={meter: _count(text) for meter, text in pairs(events or [], "--events").items()},
        part=_part(period, whole, zone),
        currency=currency,
        terms={price: _place(text) for price, text in pairs(terms or [], "--term").items()},
    )

    async def work(client: Client) -> charge_service_pb2.PreviewChargeResponse:
        return await client.services.charges.PreviewCharge(request)

    charges = as_tenant(work).charges
    show(charges, _COLUMNS, output)
    if output is Format.TABLE:
        show_parts([(charge.price_id, part) for charge in charges for part in charge.parts])


def _part(period: str | None, whole: str | None, zone: str) -> charge_service_pb2.PartOfBillingPeriod | None:
    if period is None and whole is None:
        return None
    if period is None or whole is None:
        raise typer.BadParameter("a part of a billing period needs both --period and --whole")
    return charge_service_pb2.PartOfBillingPeriod(
        period=_span(period, "--period", zone), whole_period=_span(whole, "--whole", zone), time_zone=zone
    )


def _span(text: str, option: str, zone: str) -> period_pb2.Period:
    start, slash, end = text.partition("/")
    if not slash:
        raise typer.BadParameter(f"{option}: {text!r} is not FROM/TO")
    where = zone_named(zone, "--zone")
    return period_pb2.Period(start=timestamp(start, option, where), end=timestamp(end, option, where))


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > _MAX_COUNT_DIGITS:
        raise typer.BadParameter(f"{text!r} is no number of events", param_hint="--events")
    return int(text)


def _place(text: str) -> charge_service_pb2.PlaceInTerm:
    number, _, used = text.partition(":")
    if not number.isdecimal() or len(number) > _MAX_PLACE_DIGITS:
        raise typer.BadParameter(f"{text!r} is not number:used", param_hint="--term")
    return charge_service_pb2.PlaceInTerm(number=int(number), used=used)


def _by_dimensions(text: str) -> charge_service_pb2.DimensionedQuantity:
    ((meter_id, rest),) = pairs([text], "--by").items()
    quantity, _, dimensions = rest.partition(":")
    return charge_service_pb2.DimensionedQuantity(
        meter_id=meter_id, quantity=quantity, dimensions=pairs(dimensions.split(",") if dimensions else [], "--by")
    )
