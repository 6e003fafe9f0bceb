"""steelyard events fates"""

from __future__ import annotations

from enum import StrEnum
from operator import attrgetter
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from libs.cli.connection import as_tenant
from libs.cli.output import Columns, Format, Output, as_dict, instant, print_json, table
from libs.cli.parsing import timestamp
from libs.clock import system_clock
from steelyard import Client
from steelyard.ingest.v1 import fate_service_pb2 as pb

_FATES = tuple(field.name for field in pb.FateCounts.DESCRIPTOR.fields)
_COLUMNS: Columns = {
    "FROM": lambda item: instant(item.start_time),
    "SOURCE": lambda item: item.source or "(others)",
    **{f"{name.replace('_', ' ').upper()}#": attrgetter(f"counts.{name}") for name in _FATES},
}


class By(StrEnum):
    """What `--by` takes."""

    HOUR = "hour"
    DAY = "day"
    SOURCE = "source"


_SPANS = {By.HOUR: pb.FATE_SPAN_HOUR, By.DAY: pb.FATE_SPAN_DAY, By.SOURCE: pb.FATE_SPAN_ALL}


def fates(
    start: Annotated[
        str, typer.Option("--from", help="hour of receipt: date or instant, UTC; else a day before --to")
    ] = "",
    end: Annotated[str, typer.Option("--to", help="up to this hour of receipt; else up to now")] = "",
    by: Annotated[By, typer.Option(help="count hours or days apart, or sources only")] = By.HOUR,
    source: Annotated[list[str] | None, typer.Option(help="only this source; may be given several times")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Count what became of events, by the time at which they were received and by source."""
    ends_at = timestamp(end, "--to") if end else _next_hour()
    starts_at = timestamp(start, "--from") if start else Timestamp(seconds=(ends_at or Timestamp()).seconds - 86_400)

    async def work(client: Client) -> tuple[list[pb.CountedFates], pb.FateCounts]:
        found: list[pb.CountedFates] = []
        request = pb.GetFateCountsRequest(
            start_time=starts_at, end_time=ends_at, sources=source or (), span=_SPANS[by], page_size=1_000
        )
        while True:
            page = await client.services.fates.GetFateCounts(request)
            found.extend(page.counts)
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return found, page.total

    counted, total = as_tenant(work)
    if output is Format.JSON:
        print_json({"counts": [as_dict(item) for item in counted], "total": as_dict(total)})
        return
    shown = [[cell(item) for cell in _COLUMNS.values()] for item in counted]
    table(_COLUMNS.keys(), [*shown, ["total", "", *(getattr(total, name) for name in _FATES)]])


def _next_hour() -> Timestamp:
    seconds = int(system_clock().timestamp())
    return Timestamp(seconds=seconds - seconds % 3_600 + 3_600)
