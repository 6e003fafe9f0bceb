"""steelyard usage: quantities of a meter."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from libs.cli.connection import as_tenant
from libs.cli.output import Columns, Format, Output, instant, quantity, show
from libs.cli.parsing import pairs, timestamp, zone_named
from steelyard import Client
from steelyard.ingest.v1 import meter_pb2
from steelyard.ingest.v1 import usage_service_pb2 as pb

COLUMNS: Columns = {
    "FROM": lambda row: instant(row.start_time),
    "TO": lambda row: instant(row.end_time),
    "CUSTOMER": lambda row: "others" if row.others else row.customer_id or "all",
    "GROUP": lambda row: ", ".join(f"{key}={row.dimensions[key]}" for key in sorted(row.dimensions)),
    "QUANTITY#": lambda row: quantity(row.value),
    "EVENTS#": lambda row: row.event_count,
}
_RANKED: Columns = {"RANK#": lambda row: row.rank or "", **COLUMNS}


class Window(Enum):
    """What `--window` takes."""

    TOTAL = "total"
    MINUTE = "minute"
    QUARTER_HOUR = "15m"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    BILLING_PERIOD = "billing-period"


def usage(
    meter: str,
    start: Annotated[str, typer.Option(help="first instant (RFC 3339, or a date in the zone)")],
    end: Annotated[str, typer.Option(help="first instant after")],
    window: Annotated[Window, typer.Option(help="length of the rows")] = Window.TOTAL,
    anchor_day: Annotated[int, typer.Option(help="day of the month on which billing periods begin")] = 0,
    zone: Annotated[str, typer.Option(help="IANA zone of dates and of rows; default: UTC")] = "",
    customer: Annotated[str, typer.Option(help="only this customer")] = "",
    group_by: Annotated[list[str] | None, typer.Option(help="a dimension, or `customer`")] = None,
    filters: Annotated[list[str] | None, typer.Option("--filter", help="dimension=value")] = None,
    top: Annotated[int, typer.Option(help="only so many groups, those with the greatest quantities")] = 0,
    others: Annotated[bool, typer.Option("--others", help="with --top: all others, too, as one row")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Show the quantity of METER over a time, split as asked."""
    groups = group_by or []
    where = zone_named(zone, "--zone")
    size = "UNSPECIFIED" if window is Window.TOTAL else window.name
    request = pb.QueryUsageRequest(
        meter_id=meter,
        customer_id=customer,
        start_time=timestamp(start, "--start", where),
        end_time=timestamp(end, "--end", where),
        window_size=pb.WindowSize.Value(f"WINDOW_SIZE_{size}"),
        time_zone=zone,
        group_by=[group for group in groups if group != "customer"],
        group_by_customer="customer" in groups,
        filters=[meter_pb2.PropertyFilter(property=k, value=v) for k, v in pairs(filters or [], "--filter").items()],
        anchor_day=anchor_day,
        top_groups=top,
        include_others=others,
    )

    async def work(client: Client) -> list[pb.UsageRow]:
        rows: list[pb.UsageRow] = []
        while True:
            page = await client.services.usage.QueryUsage(request)
            rows.extend(page.rows)
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return sorted(rows, key=_by_rank) if top else rows

    show(as_tenant(work), _RANKED if top else COLUMNS, output)


def _by_rank(row: pb.UsageRow) -> tuple[int, bool, int]:
    """The greatest first in each time, all others last."""
    return row.start_time.ToNanoseconds(), row.others, row.rank
