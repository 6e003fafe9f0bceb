"""steelyard meters ..."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from libs.cli.connection import as_tenant, request_id
from libs.cli.meter_files import MeterFileError, read_meters
from libs.cli.meter_plan import REFUSED, carry_out, create_meter, planned
from libs.cli.output import EXIT_NO, EXIT_USAGE, Columns, Format, Output, as_dict, fail, instant, print_json, show
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
    "ARCHIVED": lambda meter: instant(meter.archive_time),
}
_VERSION_COLUMNS: Columns = {
    "VERSION": lambda version: str(version.version),
    "MADE": lambda version: instant(version.create_time),
    "BY": lambda version: version.actor,
    "NAME": lambda version: version.display_name,
    "DESCRIPTION": lambda version: version.description,
    "ARCHIVED": lambda version: instant(version.archive_time),
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
        return await create_meter(client, meter)

    show([as_tenant(work)], COLUMNS, output)


@app.command("apply")
def apply(
    file: Annotated[Path, typer.Option("--file", "-f", exists=True, dir_okay=False, help="YAML, one document a meter")],
    dry_run: Annotated[bool, typer.Option(help="only check, and print the plan")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Create those meters of FILE that are not there yet, and change names and descriptions; if one is wrong, nothing.

    What a meter measures never changes: if one is there with another definition, or archived, nothing is done and the
    exit code is 1.
    """
    try:
        wanted = read_meters(file)
    except (OSError, MeterFileError) as error:
        fail(ValueError(f"{file}: {error}"), EXIT_USAGE)

    async def work(client: Client) -> dict[str, str]:
        there = {meter.meter_id: meter for meter in await _all_meters(client)}
        plan = {meter.meter_id: await planned(client, meter, there.get(meter.meter_id)) for meter in wanted}
        if not dry_run and not REFUSED.intersection(plan.values()):
            for meter in wanted:
                await carry_out(client, plan[meter.meter_id], meter, there.get(meter.meter_id))
        return plan

    plan = as_tenant(work)
    if output is Format.JSON:
        print_json([{"meter": as_dict(meter), "plan": plan[meter.meter_id]} for meter in wanted])
    else:
        show(wanted, {"PLAN": lambda meter: plan[meter.meter_id], **COLUMNS}, output)
    if REFUSED.intersection(plan.values()):
        raise typer.Exit(EXIT_NO)


@app.command("list")
def list_meters(
    every: Annotated[bool, typer.Option("--all", help="archived ones, too")] = False, output: Output = Format.TABLE
) -> None:
    """List meters; archived ones with --all."""
    meters = as_tenant(_all_meters)
    show([meter for meter in meters if every or not meter.HasField("archive_time")], COLUMNS, output)


@app.command("show")
def show_meter(meter_id: str, output: Output = Format.TABLE) -> None:
    """Show a meter and its versions, the newest first."""

    async def work(client: Client) -> tuple[meter_pb2.Meter, list[meter_pb2.MeterVersion]]:
        found = await client.services.meters.GetMeter(meter_service_pb2.GetMeterRequest(meter_id=meter_id))
        return found.meter, await _all_versions(client, meter_id)

    meter, versions = as_tenant(work)
    if output is Format.JSON:
        print_json({"meter": as_dict(meter), "versions": list(map(as_dict, versions))})
        return
    show([meter], COLUMNS, output)
    typer.echo()
    show(versions, _VERSION_COLUMNS, output)


@app.command("archive")
def archive(meter_id: str, output: Output = Format.TABLE) -> None:
    """End a meter for good: events received from now on do not count. What it has counted stays."""

    async def work(client: Client) -> meter_pb2.Meter:
        request = meter_service_pb2.ArchiveMeterRequest(request_id=request_id(), meter_id=meter_id)
        return (await client.services.meters.ArchiveMeter(request)).meter

    show([as_tenant(work)], COLUMNS, output)


async def _all_meters(client: Client) -> list[meter_pb2.Meter]:
    meters: list[meter_pb2.Meter] = []
    token = ""
    while True:
        page = await client.services.meters.ListMeters(meter_service_pb2.ListMetersRequest(page_token=token))
        meters.extend(page.meters)
        token = page.next_page_token
        if not token:
            return meters


async def _all_versions(client: Client, meter_id: str) -> list[meter_pb2.MeterVersion]:
    versions: list[meter_pb2.MeterVersion] = []
    token = ""
    while True:
        request = meter_service_pb2.ListMeterVersionsRequest(meter_id=meter_id, page_token=token)
        page = await client.services.meters.ListMeterVersions(request)
        versions.extend(page.versions)
        token = page.next_page_token
        if not token:
            return versions


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
