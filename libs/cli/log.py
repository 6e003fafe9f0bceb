"""steelyard log ..."""

from __future__ import annotations

from typing import Annotated

import typer

from libs.cli.connection import as_tenant
from libs.cli.output import (
    ERRORS,
    EXIT_NO,
    EXIT_USAGE,
    Columns,
    Format,
    Output,
    as_dict,
    fail,
    instant,
    name_of,
    note,
    print_json,
    quantity,
    say,
    show,
    table,
)
from libs.cli.parsing import MAX_INT32, timestamp
from steelyard import Client
from steelyard.ingest.v1 import log_service_pb2 as pb
from steelyard.ingest.v1 import usage_service_pb2

app = typer.Typer(help="The sealed log: whether it was altered, and proofs of what is in it.", no_args_is_help=True)

HEAD_COLUMNS: Columns = {
    "HEAD": lambda found: head_text(found.head),
    "LINKED": lambda found: instant(found.link_time),
    "SEALED THROUGH": lambda found: instant(found.sealed_through_time),
    "UNLINKED BATCHES#": lambda found: found.unlinked_batches,
}
SEAL_COLUMNS: Columns = {
    "HOUR": lambda seal: instant(seal.hour_start_time),
    "VERSION#": lambda seal: seal.version,
    "CAUSE": lambda seal: seal.cause,
    "EVENTS#": lambda seal: seal.event_count,
    "WINDOWS#": lambda seal: seal.window_count,
    "SEALED": lambda seal: instant(seal.seal_time),
    "PLACE": lambda seal: head_text(seal.place),
}
SUM_COLUMNS: Columns = {
    "METER": lambda found: found.meter_id,
    "CUSTOMER": lambda found: found.customer_id,
    "EVENTS#": lambda found: found.event_count,
    "WINDOWS#": lambda found: found.window_count,
    "SUM#": lambda found: quantity(found.value_sum),
    "DIGEST": lambda found: found.digest.hex(),
}
RECEIPT_COLUMNS: Columns = {
    "SOURCE": lambda result: result.key.source,
    "EVENT": lambda result: result.key.event_id,
    "PLACE": lambda result: head_text(result.receipt.place) if result.HasField("receipt") else "",
    "": lambda result: result.reason,
}
_KEYS_AT_ONCE = 1_000
_MAX_POSITION = 2**63 - 1


def head_text(head: pb.LogHead) -> str:
    """Position and hash in one word, as `--kept` takes it."""
    return f"{head.position}:{head.chain_hash.hex()}"


@app.command("head")
def head(output: Output = Format.TABLE) -> None:
    """Show the end of the chain. Keep it: `verify --kept` shows later that what it covers is still there."""
    found = as_tenant(lambda client: client.services.log.GetLogHead(pb.GetLogHeadRequest()))
    show([found], HEAD_COLUMNS, output)


@app.command("seals")
def seals(
    latest: Annotated[bool, typer.Option("--latest", help="only the latest version of each hour")] = False,
    output: Output = Format.TABLE,
) -> None:
    """List what hours came to, latest hour first; later changes are versions of their own."""

    async def work(client: Client) -> list[pb.Seal]:
        found: list[pb.Seal] = []
        request = pb.ListSealsRequest(latest_only=latest, page_size=1_000)
        while True:
            page = await client.services.log.ListSeals(request)
            found.extend(page.seals)
            request.page_token = page.next_page_token
            if not request.page_token:
                return found

    show(as_tenant(work), SEAL_COLUMNS, output)


@app.command("seal")
def seal(
    hour: Annotated[str, typer.Argument(help="the start of the hour, UTC: 2026-03-10T12:00:00Z")],
    version: Annotated[int, typer.Option(min=0, max=MAX_INT32, help="else the latest")] = 0,
    output: Output = Format.TABLE,
) -> None:
    """Show what an hour came to, per meter and customer."""
    start = timestamp(hour, "HOUR")

    async def work(client: Client) -> list[pb.SealSum]:
        found: list[pb.SealSum] = []
        request = pb.GetSealRequest(hour_start_time=start, version=version, page_size=1_000)
        while True:
            page = await client.services.log.GetSeal(request)
            found.extend(page.sums)
            request.page_token = page.next_page_token
            if not request.page_token:
                return found

    show(as_tenant(work), SUM_COLUMNS, output)


@app.command("receipt")
def receipt(
    source: Annotated[str, typer.Argument(help="the events' source")],
    event_ids: Annotated[list[str], typer.Argument(help="the events' ids")],
    output: Output = Format.TABLE,
) -> None:
    """Print proofs that events are in the log; with `--output json` to be kept. Exits with 1 if one has none."""

    async def work(client: Client) -> list[pb.ReceiptResult]:
        found: list[pb.ReceiptResult] = []
        for first in range(0, len(event_ids), _KEYS_AT_ONCE):
            keys = [
                usage_service_pb2.EventKey(source=source, event_id=event_id)
                for event_id in event_ids[first : first + _KEYS_AT_ONCE]
            ]
            found.extend((await client.services.log.GetReceipts(pb.GetReceiptsRequest(keys=keys))).results)
        return found

    results = as_tenant(work)
    show(results, RECEIPT_COLUMNS, output)
    if not all(result.HasField("receipt") for result in results):
        raise typer.Exit(EXIT_NO)


@app.command("verify")
def verify(
    first: Annotated[int, typer.Option("--from", min=1, max=_MAX_POSITION, help="first position of the chain")] = 1,
    last: Annotated[
        int, typer.Option("--to", min=0, max=_MAX_POSITION, help="last position; else everything, windows too")
    ] = 0,
    kept: Annotated[str, typer.Option(help="a head that you have kept: POSITION:HASH")] = "",
    output: Output = Format.TABLE,
) -> None:
    """Recompute the log from what is stored. Exits with 1 and names the first thing that was altered."""
    request = pb.VerifyLogRequest(from_position=first, to_position=last)
    if kept:
        request.kept_head.CopyFrom(_kept(kept))
    done = as_tenant(lambda client: _verify(client, request))
    if output is Format.JSON:
        print_json(as_dict(done))
    else:
        counts = (done.verified_links, done.verified_events, done.verified_hours, done.unsettled_hours)
        table(("LINKS#", "EVENTS#", "HOURS#", "UNSETTLED HOURS#"), [counts])
    if done.HasField("difference"):
        found = done.difference
        kind = name_of(pb.AlteredKind, found.kind, "ALTERED_KIND")
        note(f"altered ({kind}): {found.name}: {found.description}")
        raise typer.Exit(EXIT_NO)
    if output is Format.TABLE:
        say("nothing was altered")


async def _verify(client: Client, request: pb.VerifyLogRequest) -> pb.VerifyLogResponse:
    """All steps put together."""
    done = pb.VerifyLogResponse()
    while True:
        step = await client.services.log.VerifyLog(request, timeout=120)
        done.verified_links += step.verified_links
        done.verified_events += step.verified_events
        done.verified_hours += step.verified_hours
        done.unsettled_hours += step.unsettled_hours
        if step.HasField("difference"):
            done.difference.CopyFrom(step.difference)
        if not step.next_page_token:
            return done
        request.page_token = step.next_page_token
        if ERRORS.is_terminal:
            note(f"{done.verified_links} links, {done.verified_events} events, {done.verified_hours} hours")


def _kept(text: str) -> pb.LogHead:
    position, _, chain_hash = text.partition(":")
    try:
        return pb.LogHead(position=int(position), chain_hash=bytes.fromhex(chain_hash))
    except ValueError:
        fail(ValueError("--kept takes POSITION:HASH, as `steelyard log head` prints it"), EXIT_USAGE)
