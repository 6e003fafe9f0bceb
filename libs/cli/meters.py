"""steelyard meters ..."""

from __future__ import annotations

from typing import Annotated

import typer

from libs.cli.connection import as_tenant, request_id
from libs.cli.output import Format, Output, show
from libs.cli.parsing import pairs
from steelyard import Client
from steelyard.ingest.v1 import meter_pb2, meter_service_pb2

app = typer.Typer(help="Meters: how events become quantities.", no_args_is_help=True)

COLUMNS = {
    "METER": lambda meter: meter.meter_id,
    "EVENT TYPE": lambda meter: meter.event_type,
    "VALUE": lambda meter: f"sum({meter.expression})" if meter.expression else "count",
    "FILTERS": lambda meter: ", ".join(f"{item.property}={item.value}" for item in meter.filters),
    "GROUP BY": lambda meter: ", ".join(meter.group_by),
    "UNIT": lambda meter: meter.unit,
}


@app.command("create")
def create(
    meter_id: str,
    event_type: Annotated[str, typer.Option(help="events that count")],
    sum_of: Annotated[
        str, typer.Option("--sum", help="property or expression to add up; without it events count")
    ] = "",
    filters: Annotated[list[str] | None, typer.Option("--filter", help="property=value that must hold")] = None,
    group_by: Annotated[list[str] | None, typer.Option(help="property that splits the quantity")] = None,
    unit: Annotated[str, typer.Option(help="what one unit is")] = "",
    name: Annotated[str, typer.Option(help="name for people")] = "",
    output: Output = Format.TABLE,
) -> None:
    """Create a meter."""
    meter = meter_pb2.Meter(
        meter_id=meter_id,
        display_name=name or meter_id,
        event_type=event_type,
        aggregation=meter_pb2.AGGREGATION_SUM if sum_of else meter_pb2.AGGREGATION_COUNT,
        expression=sum_of,
        filters=[
            meter_pb2.PropertyFilter(property=key, value=value)
            for key, value in pairs(filters or [], "--filter").items()
        ],
        group_by=group_by or [],
        unit=unit,
    )

    async def work(client: Client) -> meter_service_pb2.CreateMeterResponse:
        return await client.services.meters.CreateMeter(
            meter_service_pb2.CreateMeterRequest(request_id=request_id(), meter=meter)
        )

    show([as_tenant(work).meter], COLUMNS, output)


@app.command("list")
def list_meters(output: Output = Format.TABLE) -> None:
    """List meters."""

    async def work(client: Client) -> list[meter_pb2.Meter]:
        meters: list[meter_pb2.Meter] = []
        token = ""
        while True:
            page = await client.services.meters.ListMeters(meter_service_pb2.ListMetersRequest(page_token=token))
            meters.extend(page.meters)
            token = page.next_page_token
            if not token:
                return meters

    show(as_tenant(work), COLUMNS, output)
