"""steelyard events differences"""

from __future__ import annotations

from typing import Annotated

import typer

from libs.cli.connection import as_tenant
from libs.cli.output import EXIT_NO, Columns, Format, Output, instant, note, show
from steelyard import Client
from steelyard.ingest.v1 import fate_service_pb2 as pb

_COLUMNS: Columns = {
    "HOUR": lambda item: instant(item.hour_start_time),
    "EQUATION": lambda item: item.equation,
    "SUBJECT": lambda item: item.subject,
    "LEFT": lambda item: item.left,
    "RIGHT": lambda item: item.right,
    "SINCE": lambda item: instant(item.first_seen_time),
    "RESOLVED": lambda item: instant(item.resolve_time) if item.HasField("resolve_time") else "-",
}


def differences(
    resolved: Annotated[bool, typer.Option("--resolved", help="also those that agree again")] = False,
    output: Output = Format.TABLE,
) -> None:
    """List where the standing check found that counts, batches, log and windows disagree; exit code 1 if any do."""

    async def work(client: Client) -> tuple[list[pb.FateDifference], pb.ListFateDifferencesResponse]:
        found: list[pb.FateDifference] = []
        request = pb.ListFateDifferencesRequest(include_resolved=resolved, page_size=1_000)
        while True:
            page = await client.services.fates.ListFateDifferences(request)
            found.extend(page.differences)
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return found, page

    found, last = as_tenant(work)
    show(found, _COLUMNS, output)
    if last.HasField("check_time"):
        note(f"checked at {instant(last.check_time)}: hours of receipt before {instant(last.checked_before_time)}")
    else:
        note("nothing was checked yet")
    if any(not item.HasField("resolve_time") for item in found):
        raise typer.Exit(EXIT_NO)
