"""Sending a file of usage events, and saying what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from libs.cli.output import ERRORS, Format, note, print_json, say, table
from steelyard import Ack, Client, DeliveryReport, UsageEvent, Verdict

_CHUNK = 5_000
_PATIENCE_S = 10
_PROBLEMS_IN_TABLE = 50


async def send_file(client: Client, events: Iterator[UsageEvent], ack: Ack, total: DeliveryReport) -> None:
    """Send in chunks and add up what became of them in `total`, which so is right also when a later chunk fails."""
    columns = (TextColumn("sending"), BarColumn(), TextColumn("{task.completed:,} events"), TimeElapsedColumn())
    with Progress(*columns, console=ERRORS, disable=not ERRORS.is_terminal) as progress:
        task = progress.add_task("send", total=None)
        while chunk := list(islice(events, _CHUNK)):
            sending = asyncio.ensure_future(client.send(chunk, ack=ack))
            if not total.total and not (await asyncio.wait({sending}, timeout=_PATIENCE_S))[0]:
                note("no answer yet, still trying")
            report = await sending
            total.counts.update(report.counts)
            total.problems.extend(report.problems[: total.MAX_PROBLEMS - len(total.problems)])
            progress.advance(task, len(chunk))


def print_report(report: DeliveryReport, output: Format) -> None:
    """Print what became of the events that were sent."""
    problems = [
        {"event_id": p.event_id, "fate": p.verdict.name.lower(), "field": p.field, "reason": p.reason}
        | {"description": p.description}
        for p in report.problems
    ]
    shown = len(problems) if output is Format.JSON else min(len(problems), _PROBLEMS_IN_TABLE)
    more = report.counts[Verdict.REJECTED] + report.counts[Verdict.CONFLICT] - shown
    if output is Format.JSON:
        counts = {verdict.name.lower(): report.counts[verdict] for verdict in Verdict}
        print_json({"counts": counts, "problems": problems, "more_problems": more})
        return
    say(", ".join(f"{count} {verdict.name.lower()}" for verdict, count in report.counts.items()) or "no events")
    if problems:
        table(("ID", "FATE", "FIELD", "REASON", "DESCRIPTION"), (problem.values() for problem in problems[:shown]))
    if more:
        say(f"and {more:,} more: `steelyard events exceptions`")
