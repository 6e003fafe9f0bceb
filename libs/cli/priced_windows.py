"""The hours or days behind a charge."""

from __future__ import annotations

from libs.cli.output import Columns, instant, quantity
from steelyard import Client
from steelyard.rating.v1 import charge_service_pb2 as pb

WINDOW_COLUMNS: Columns = {
    "WINDOW": lambda window: instant(window.start_time),
    "QUANTITY#": lambda window: quantity(window.quantity),
    "AMOUNT#": lambda window: quantity(window.amount),
}


async def explained(client: Client, request: pb.ExplainChargeRequest) -> pb.ExplainChargeResponse:
    """Return a charge with the usage behind it, and with all of its windows if it has any."""
    response = await client.services.charges.ExplainCharge(request)
    page = response
    while page.more_windows:
        request.windows_after.CopyFrom(page.windows[-1].start_time)
        page = await client.services.charges.ExplainCharge(request)
        response.windows.extend(page.windows)
    response.more_windows = False
    return response
