"""steelyard events ..."""

from __future__ import annotations

from typing import Annotated

import typer

from libs.cli.connection import as_tenant
from libs.cli.event_corrections import corrections, mark_of, replace, void
from libs.cli.event_differences import differences
from libs.cli.event_estimate import estimate
from libs.cli.event_fates import fates
from libs.cli.event_send import send
from libs.cli.event_trace import meters_of, show_meters
from libs.cli.output import (
    EXIT_NO,
    Columns,
    Format,
    Output,
    as_dict,
    instant,
    name_of,
    print_json,
    say,
    show,
    table,
)
from steelyard import Client
from steelyard.ingest.v1 import ingest_service_pb2
from steelyard.ingest.v1 import usage_service_pb2 as pb

app = typer.Typer(help="Usage events: send them, see what became of them.", no_args_is_help=True)

EVENT_COLUMNS: Columns = {
    "TIME": lambda item: instant(item.event.event_time),
    "SOURCE": lambda item: item.event.source,
    "ID": lambda item: item.event.event_id,
    "TYPE": lambda item: item.event.event_type,
    "CUSTOMER": lambda item: item.event.customer_id + (" (unknown)" if item.unassigned else ""),
    "MEASURED": lambda item: ", ".join(f"{key}={item.measured_values[key]}" for key in sorted(item.measured_values)),
    "MARK": mark_of,
}
EXCEPTION_COLUMNS: Columns = {
    "RECEIVED": lambda item: instant(item.received_time),
    "SOURCE": lambda item: item.key.source,
    "ID": lambda item: item.key.event_id,
    "FATE": lambda item: name_of(ingest_service_pb2.EventVerdict, item.verdict, "EVENT_VERDICT"),
    "FIELD": lambda item: item.field,
    "REASON": lambda item: item.reason,
    "DESCRIPTION": lambda item: item.description,
}


app.command("send")(send)
app.command("estimate")(estimate)
app.command("void")(void)
app.command("replace")(replace)
app.command("corrections")(corrections)
app.command("fates")(fates)
app.command("differences")(differences)


@app.command("show")
def show_event(
    source: Annotated[str, typer.Argument(help="the event's; `cli` if a file that was sent here named none")],
    event_id: str,
    output: Output = Format.TABLE,
) -> None:
    """Show what became of an event: its fate, what it measured, conflicts and rejections under its id.

    Exit code 1 if it is unknown.
    """
    key = pb.EventKey(source=source, event_id=event_id)

    async def work(client: Client) -> pb.EventStatus:
        request = pb.GetEventStatusRequest(keys=[key], trace=True)
        return (await client.services.usage.GetEventStatus(request)).statuses[0]

    status = as_tenant(work)
    event = status.trace.event if status.HasField("trace") else None
    known = status.verdict != ingest_service_pb2.EVENT_VERDICT_UNSPECIFIED
    if output is Format.JSON:
        shown = as_dict(status)
        shown.pop("trace", None)
        print_json({"status": shown, "event": as_dict(event) if event else None, **meters_of(status.trace)})
    else:
        fate = name_of(ingest_service_pb2.EventVerdict, status.verdict, "EVENT_VERDICT") if known else "unknown"
        say(f"{source} {event_id}: {fate}, sent again {status.duplicates} times")
        if event:
            show([event], EVENT_COLUMNS, output)
            show_meters(status.trace)
        if status.exceptions:
            show(status.exceptions, EXCEPTION_COLUMNS, output)
    if not known:
        raise typer.Exit(EXIT_NO)


@app.command("list")
def list_events(
    customer: Annotated[str, typer.Option(help="only of this customer")] = "",
    event_type: Annotated[str, typer.Option("--type", help="only of this type")] = "",
    unassigned: Annotated[bool, typer.Option(help="only of unknown customers")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="at most this many")] = 100,
    output: Output = Format.TABLE,
) -> None:
    """List recorded events, newest first."""
    request = pb.ListEventsRequest(
        customer_id=customer, event_type=event_type, unassigned_only=unassigned, page_size=limit
    )

    async def work(client: Client) -> pb.ListEventsResponse:
        return await client.services.usage.ListEvents(request)

    show(as_tenant(work).events, EVENT_COLUMNS, output)


@app.command("exceptions")
def exceptions(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="at most this many")] = 100,
    output: Output = Format.TABLE,
) -> None:
    """List conflicts and rejections, newest first."""

    async def work(client: Client) -> pb.ListEventExceptionsResponse:
        return await client.services.usage.ListEventExceptions(pb.ListEventExceptionsRequest(page_size=limit))

    show(as_tenant(work).exceptions, EXCEPTION_COLUMNS, output)


@app.command("counts")
def counts(output: Output = Format.TABLE) -> None:
    """Show how many events were sent and what became of them."""

    async def work(client: Client) -> pb.GetEventCountsResponse:
        return await client.services.usage.GetEventCounts(pb.GetEventCountsRequest())

    response = as_tenant(work)
    values = {field.name: int(getattr(response, field.name)) for field in response.DESCRIPTOR.fields}
    if output is Format.JSON:
        print_json(values)
    else:
        table(("FATE", "EVENTS#"), values.items())
