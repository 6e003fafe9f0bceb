"""steelyard events ..."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from libs.cli.connection import as_tenant
from libs.cli.event_file import EventFileError, read_events
from libs.cli.output import (
    CONSOLE,
    ERRORS,
    EXIT_NO,
    Columns,
    Format,
    Output,
    as_dict,
    fail,
    instant,
    name_of,
    print_json,
    show,
    table,
)
from steelyard import Ack, Client, DeliveryFailed, DeliveryReport, UsageEvent
from steelyard.ingest.v1 import ingest_service_pb2
from steelyard.ingest.v1 import usage_service_pb2 as pb

app = typer.Typer(help="Usage events: send them, see what became of them.", no_args_is_help=True)

_CHUNK = 5_000

EVENT_COLUMNS: Columns = {
    "TIME": lambda item: instant(item.event.event_time),
    "SOURCE": lambda item: item.event.source,
    "ID": lambda item: item.event.event_id,
    "TYPE": lambda item: item.event.event_type,
    "CUSTOMER": lambda item: item.event.customer_id + (" (unknown)" if item.unassigned else ""),
    "MEASURED": lambda item: ", ".join(f"{key}={item.measured_values[key]}" for key in sorted(item.measured_values)),
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


@app.command("send")
def send(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help=".jsonl or .csv")],
    event_type: Annotated[str, typer.Option("--type", help="type of events that name none")] = "",
    wait: Annotated[bool, typer.Option(help="wait until recorded, so that duplicates are known")] = True,
    output: Output = Format.TABLE,
) -> None:
    """Send the events of FILE. Sending it again is safe; exit code 1 if events were rejected or are in conflict."""

    async def work(client: Client) -> DeliveryReport:
        return await _send_file(client, file, event_type, Ack.RECORDED if wait else Ack.QUEUED)

    try:
        report = as_tenant(work)
    except EventFileError as error:
        fail(error)
    counts = {verdict.name.lower(): count for verdict, count in report.counts.items()}
    problems = [
        {"event_id": p.event_id, "fate": p.verdict.name.lower(), "field": p.field, "reason": p.reason}
        | {"description": p.description}
        for p in report.problems
    ]
    if output is Format.JSON:
        print_json({"counts": counts, "problems": problems})
    else:
        CONSOLE.print(", ".join(f"{count} {name}" for name, count in counts.items()) or "no events", highlight=False)
        if problems:
            table(("ID", "FATE", "FIELD", "REASON", "DESCRIPTION"), (problem.values() for problem in problems[:50]))
    if problems:
        raise typer.Exit(EXIT_NO)


async def _send_file(client: Client, file: Path, event_type: str, ack: Ack) -> DeliveryReport:
    total = DeliveryReport()
    columns = (TextColumn("sending"), BarColumn(), TextColumn("{task.completed:,} events"), TimeElapsedColumn())
    with Progress(*columns, console=ERRORS, disable=not ERRORS.is_terminal) as progress:
        task = progress.add_task("send", total=None)
        chunk: list[UsageEvent] = []

        async def send_chunk() -> None:
            try:
                report = await client.send(chunk, ack=ack)
            except DeliveryFailed as error:
                fail(error)
            total.counts.update(report.counts)
            total.problems.extend(report.problems)
            progress.advance(task, len(chunk))
            chunk.clear()

        for event in read_events(file, event_type):
            chunk.append(event)
            if len(chunk) >= _CHUNK:
                await send_chunk()
        if chunk:
            await send_chunk()
    return total


@app.command("show")
def show_event(source: str, event_id: str, output: Output = Format.TABLE) -> None:
    """Show what became of an event: its fate, what it measured, conflicts and rejections under its id."""
    key = pb.EventKey(source=source, event_id=event_id)

    async def work(client: Client) -> tuple[pb.EventStatus, pb.StoredEvent | None]:
        statuses = await client.services.usage.GetEventStatus(pb.GetEventStatusRequest(keys=[key]))
        status = statuses.statuses[0]
        if status.verdict != ingest_service_pb2.EVENT_VERDICT_RECORDED:
            return status, None
        event = await client.services.usage.GetEvent(pb.GetEventRequest(source=source, event_id=event_id))
        return status, event.event

    status, event = as_tenant(work)
    if output is Format.JSON:
        print_json({"status": as_dict(status), "event": as_dict(event) if event else None})
        return
    fate = name_of(ingest_service_pb2.EventVerdict, status.verdict, "EVENT_VERDICT")
    CONSOLE.print(f"{source} {event_id}: {'unknown' if fate == 'unspecified' else fate}, ", end="", highlight=False)
    CONSOLE.print(f"sent again {status.duplicates} times", highlight=False)
    if event:
        show([event], EVENT_COLUMNS, output)
    if status.exceptions:
        show(status.exceptions, EXCEPTION_COLUMNS, output)


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
