"""steelyard meters ..."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from libs.cli.connection import as_tenant, request_id
from libs.cli.meter_files import MeterFileError, read_meters
from libs.cli.output import EXIT_NO, EXIT_USAGE, Columns, Format, Output, as_dict, fail, print_json, show
from libs.cli.parsing import pairs
from steelyard import Client
from steelyard.ingest.v1 import meter_pb2, meter_service_pb2

app = typer.Typer(help="Meters: how events become quantities.", no_args_is_help=True)

COLUMNS: Columns = {
    "METER": lambda meter: meter.meter_id,
    "EVENT TYPE": lambda meter: meter.event_type,
    "VALUE": lambda meter: _value(meter),
    "FILTERS": lambda meter: ", ".join(map(_filter, meter.filters)),
    "GROUP BY": lambda meter: ", ".join(meter.group_by),
    "UNIT": lambda meter: meter.unit,
}
_CREATE, _SAME, _DIFFERENT = "create", "unchanged", "DIFFERENT"


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
    """Create a meter that counts or adds up. All that meters can do: `steelyard meters apply`."""
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

    async def work(client: Client) -> meter_pb2.Meter:
        return await _create(client, meter)

    show([as_tenant(work)], COLUMNS, output)


@app.command("apply")
def apply(
    file: Annotated[Path, typer.Option("--file", "-f", exists=True, dir_okay=False, help="YAML, one document a meter")],
    dry_run: Annotated[bool, typer.Option(help="only check, and print the plan")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Create those meters of FILE that are not there yet, all or, if one is wrong, none.

    A meter never changes: if one is there with another definition, nothing is created and the exit code is 1.
    """
    try:
        wanted = read_meters(file)
    except (OSError, MeterFileError) as error:
        fail(ValueError(f"{file}: {error}"), EXIT_USAGE)

    async def work(client: Client) -> dict[str, str]:
        there = {meter.meter_id: meter for meter in await _all_meters(client)}
        plan = {meter.meter_id: await _planned(client, meter, there.get(meter.meter_id)) for meter in wanted}
        if _DIFFERENT not in plan.values() and not dry_run:
            for meter in wanted:
                if plan[meter.meter_id] == _CREATE:
                    await _create(client, meter)
        return plan

    plan = as_tenant(work)
    if output is Format.JSON:
        print_json([{"meter": as_dict(meter), "plan": plan[meter.meter_id]} for meter in wanted])
    else:
        show(wanted, {"PLAN": lambda meter: plan[meter.meter_id], **COLUMNS}, output)
    if _DIFFERENT in plan.values():
        raise typer.Exit(EXIT_NO)


@app.command("list")
def list_meters(output: Output = Format.TABLE) -> None:
    """List meters."""
    show(as_tenant(_all_meters), COLUMNS, output)


async def _all_meters(client: Client) -> list[meter_pb2.Meter]:
    meters: list[meter_pb2.Meter] = []
    token = ""
    while True:
        page = await client.services.meters.ListMeters(meter_service_pb2.ListMetersRequest(page_token=token))
        meters.extend(page.meters)
        token = page.next_page_token
        if not token:
            return meters


async def _create(client: Client, meter: meter_pb2.Meter, *, validate_only: bool = False) -> meter_pb2.Meter:
    request = meter_service_pb2.CreateMeterRequest(request_id=request_id(), meter=meter, validate_only=validate_only)
    return (await client.services.meters.CreateMeter(request)).meter


async def _planned(client: Client, wanted: meter_pb2.Meter, there: meter_pb2.Meter | None) -> str:
    as_stored = await _create(client, wanted, validate_only=True)
    if there is None:
        return _CREATE
    definition = meter_pb2.Meter()
    definition.CopyFrom(there)
    definition.ClearField("create_time")
    return _SAME if as_stored == definition else _DIFFERENT


def _value(meter: meter_pb2.Meter) -> str:
    name = meter_pb2.Aggregation.Name(meter.aggregation).removeprefix("AGGREGATION_").lower()
    if meter.HasField("buckets"):
        inner = meter_pb2.Aggregation.Name(meter.buckets.aggregation).removeprefix("AGGREGATION_").lower()
        length = meter_pb2.BucketLength.Name(meter.buckets.length).removeprefix("BUCKET_LENGTH_").lower()
        return f"{name}({inner}({meter.expression}) by {length})"
    return f"{name}({meter.expression})" if meter.expression else name


def _filter(item: meter_pb2.PropertyFilter) -> str:
    if item.operator in (meter_pb2.FILTER_OPERATOR_UNSPECIFIED, meter_pb2.FILTER_OPERATOR_EQUALS):
        return f"{item.property}={item.value}"
    operator = meter_pb2.FilterOperator.Name(item.operator).removeprefix("FILTER_OPERATOR_").lower()
    return " ".join(filter(None, [item.property, operator, item.value, "|".join(item.values)]))
