"""steelyard events void, replace and corrections"""

from __future__ import annotations

import getpass
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from google.protobuf.message import Message

from libs.cli.connection import as_tenant, request_id
from libs.cli.event_file import EventFileError
from libs.cli.event_replacements import read_replacements
from libs.cli.output import (
    EXIT_NO,
    EXIT_USAGE,
    Columns,
    Format,
    Output,
    as_dict,
    fail,
    instant,
    name_of,
    print_json,
    say,
    show,
    table,
)
from steelyard import Client
from steelyard.ingest.v1 import correction_service_pb2 as pb
from steelyard.ingest.v1 import usage_service_pb2

MessageT = TypeVar("MessageT", bound=Message)
_MAX_ITEMS, _MAX_BYTES = 10_000, 3_000_000
"""Of one request. A file may hold more: then each part is done or not done by itself."""

Reason = Annotated[str, typer.Option(help="why; kept with the correction")]
Actor = Annotated[str, typer.Option(help="who decided it [default: the user of this shell]")]
Source = Annotated[str, typer.Option(help="the source of the events; `cli` if a file that was sent here named none")]
CORRECTION_COLUMNS: Columns = {
    "MADE": lambda item: instant(item.correction.create_time),
    "SOURCE": lambda item: item.key.source,
    "ID": lambda item: item.key.event_id,
    "KIND": lambda item: _kind(item.correction) + (" (waits for it)" if item.waiting else ""),
    "REPLACED BY": lambda item: item.correction.replacement.event_id,
    "BY": lambda item: item.correction.actor,
    "REASON": lambda item: item.correction.reason,
}


def void(
    event_ids: Annotated[list[str] | None, typer.Argument(help="ids of events")] = None,
    file: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="with an id on each line")] = None,
    source: Source = "cli",
    reason: Reason = "",
    actor: Actor = "",
    output: Output = Format.TABLE,
) -> None:
    """Take events back: they stay in the log and count no more. One that has not arrived is void when it does.

    It cannot be undone; doing it again is safe. Exit code 1 if an event was refused.
    """
    ids = [*(event_ids or []), *(_lines(file) if file else [])]
    if not ids:
        raise typer.BadParameter("name events, or a --file of them")
    keys = [usage_service_pb2.EventKey(source=source, event_id=event_id) for event_id in ids]
    said = _said(reason, actor)

    async def work(client: Client) -> list[pb.CorrectionResult]:
        results: list[pb.CorrectionResult] = []
        for part in _parts(keys):
            request = pb.VoidEventsRequest(request_id=request_id(), keys=part, **said)
            results.extend((await client.services.corrections.VoidEvents(request)).results)
        return results

    _print(keys, as_tenant(work), output)


def replace(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help=".csv or .jsonl")],
    event_type: Annotated[str, typer.Option("--type", help="type of events that name none")] = "",
    source: Source = "cli",
    reason: Reason = "",
    actor: Actor = "",
    output: Output = Format.TABLE,
) -> None:
    """Record the events of FILE in the place of others, each of the one that its field `replaces` names.

    FILE is as for `events send`, with `replaces` beside the other fields (and `replaces_source`, if the original's
    source is neither its own nor --source). event_id may be left out. Doing it again is safe. Exit code 1 if an event
    was refused.
    """
    try:
        replacements = [item for _, item in read_replacements(file, event_type, source)]
    except (EventFileError, OSError) as error:
        fail(error, EXIT_USAGE)
    if not replacements:
        raise typer.BadParameter(f"{file} has no events")
    said = _said(reason, actor)

    async def work(client: Client) -> list[pb.CorrectionResult]:
        results: list[pb.CorrectionResult] = []
        for part in _parts(replacements):
            request = pb.ReplaceEventsRequest(request_id=request_id(), replacements=part, **said)
            results.extend((await client.services.corrections.ReplaceEvents(request)).results)
        return results

    _print([item.original for item in replacements], as_tenant(work), output)


def corrections(
    waiting: Annotated[bool, typer.Option(help="only those whose event has not arrived")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="at most this many")] = 100,
    output: Output = Format.TABLE,
) -> None:
    """List corrections, newest first."""

    async def work(client: Client) -> pb.ListCorrectionsResponse:
        request = pb.ListCorrectionsRequest(page_size=limit, waiting_only=waiting)
        return await client.services.corrections.ListCorrections(request)

    show(as_tenant(work).corrections, CORRECTION_COLUMNS, output)


def mark_of(event: usage_service_pb2.StoredEvent) -> str:
    """What keeps an event from counting, and what it replaces, for people."""
    correction = event.correction
    marks = []
    if correction.kind == usage_service_pb2.CORRECTION_KIND_VOID:
        marks.append(f"voided: {correction.reason}")
    if correction.kind == usage_service_pb2.CORRECTION_KIND_REPLACE:
        marks.append(f"superseded by {correction.replacement.event_id}: {correction.reason}")
    if event.HasField("replaces"):
        marks.append(f"replaces {event.replaces.event_id}")
    return "; ".join(marks)


def _kind(correction: usage_service_pb2.Correction) -> str:
    return name_of(usage_service_pb2.CorrectionKind, correction.kind, "CORRECTION_KIND")


def _said(reason: str, actor: str) -> dict[str, str]:
    if not reason:
        raise typer.BadParameter("say why, with --reason")
    return {"reason": reason, "actor": actor or getpass.getuser()}


def _lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        fail(ValueError(f"{file}: {error}"), EXIT_USAGE)


def _parts(items: Sequence[MessageT]) -> Iterator[Sequence[MessageT]]:
    """As many items as one request may have."""
    part: list[MessageT] = []
    size_bytes = 0
    for item in items:
        if len(part) == _MAX_ITEMS or (part and size_bytes + item.ByteSize() > _MAX_BYTES):
            yield part
            part, size_bytes = [], 0
        part.append(item)
        size_bytes += item.ByteSize() + 8  # What frames it in the request.
    yield part


def _print(keys: Sequence[usage_service_pb2.EventKey], results: Sequence[pb.CorrectionResult], output: Format) -> None:
    """Print what became of each event; of people only those hear that were not simply done."""
    named = [name_of(pb.CorrectionOutcome, result.outcome, "CORRECTION_OUTCOME") for result in results]
    if output is Format.JSON:
        pairs = zip(keys, results, strict=True)
        print_json([{"key": as_dict(key), "result": as_dict(result)} for key, result in pairs])
    else:
        say(", ".join(f"{count} {name}" for name, count in sorted(Counter(named).items())))
        refused = [pair for pair in zip(keys, results, strict=True) if pair[1].reason]
        if refused:
            rows = ((key.source, key.event_id, result.reason, result.description) for key, result in refused)
            table(("SOURCE", "ID", "REASON", "DESCRIPTION"), rows)
    if any(result.outcome == pb.CORRECTION_OUTCOME_REFUSED for result in results):
        raise typer.Exit(EXIT_NO)
