"""steelyard events estimate: what one event would cost now."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated

import typer

from libs.cli.connection import as_tenant
from libs.cli.event_of_row import event_of, not_an_event
from libs.cli.event_rows import START, RowError, json_rows
from libs.cli.output import Columns, Format, Output, as_dict, instant, name_of, print_json, quantity, say, table
from libs.clock import system_clock
from steelyard import Client
from steelyard.ingest.v1 import usage_event_pb2
from steelyard.rating.v1 import estimate_service_pb2 as pb

_MEASURED: Columns = {
    "METER": lambda item: item.meter_id,
    "QUANTITY#": lambda item: quantity(item.quantity),
    "UNIT": lambda item: item.unit,
    "DIMENSIONS": lambda item: ", ".join(f"{key}={item.dimensions[key]}" for key in sorted(item.dimensions)) or "-",
}
_LINES: Columns = {
    "LINE": lambda line: line.price_id,
    "QUANTITY BEFORE#": lambda line: quantity(line.quantity_before),
    "AFTER#": lambda line: quantity(line.quantity_after),
    "AMOUNT BEFORE#": lambda line: quantity(line.amount_before),
    "AFTER #": lambda line: quantity(line.amount_after),
    "ADDED#": lambda line: quantity(line.marginal_amount) or _why(line),
}


def estimate(
    file: Annotated[Path, typer.Option("--file", "-f", exists=True, dir_okay=False, help="one event as a JSON object")],
    event_type: Annotated[str, typer.Option("--type", help="if the event names none")] = "",
    output: Output = Format.TABLE,
) -> None:
    """Tell what an event would cost now, without sending it.

    It needs a customer_id and what meters look at. Without an event_time it is one of this moment; for a tenant on a
    test clock give one.
    """
    event = _read(file, event_type)

    async def work(client: Client) -> pb.EstimateEventResponse:
        return await client.services.estimates.EstimateEvent(pb.EstimateEventRequest(event=event))

    found = as_tenant(work)
    if output is Format.JSON:
        print_json(as_dict(found))
        return
    if found.quantities:
        table(_MEASURED.keys(), ([cell(item) for cell in _MEASURED.values()] for item in found.quantities))
    else:
        say("no meter counts it")
    for period in found.periods:
        _show(period)
    if not found.periods:
        say(f"{event.customer_id} has no billing period then: it would cost nothing now")
    if found.HasField("watermark_time"):
        say(f"an estimate; contains what was acknowledged before {instant(found.watermark_time)}")


def _show(period: pb.EstimatedPeriod) -> None:
    say(f"{period.subscription_id}, {instant(period.period.start)} to {instant(period.period.end)}")
    if period.problem:
        say(f"cannot be priced at present: {period.problem}")
        return
    table(_LINES.keys(), ([cell(line) for cell in _LINES.values()] for line in period.lines))
    if period.marginal_amount:
        say(f"adds {quantity(period.marginal_amount)} {period.currency}, before rounding")
    else:
        say("what it adds is not known")


def _why(line: pb.EstimatedLine) -> str:
    return f"not known: {name_of(pb.NotEstimableReason, line.not_estimable, 'NOT_ESTIMABLE_REASON')}"


def _read(path: Path, event_type: str) -> usage_event_pb2.UsageEvent:
    """Read the event; over as many lines as it likes, as line ends mean nothing between the parts of an object.

    :raises typer.BadParameter: if it is not one event
    """
    text = path.read_bytes().replace(b"\r", b" ").replace(b"\n", b" ")
    try:
        rows = [row for _, row, _ in json_rows(io.BytesIO(text), START)]
        if len(rows) != 1:
            raise RowError(1, "not an event")
        # An id of nobody's: it is not sent, and no meter looks at it.
        given = {"event_id": "estimate", "event_time": system_clock().isoformat(), "source": "cli"}
        with not_an_event(1):
            return event_of({**given, **rows[0]}, event_type).to_pb("cli")
    except RowError as error:
        raise typer.BadParameter(f"{path}: {error}", param_hint="--file") from error
