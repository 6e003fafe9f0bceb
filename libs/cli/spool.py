"""steelyard spool ..."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from libs.cli.connection import api_key, endpoints
from libs.cli.output import EXIT_NO, EXIT_UNAVAILABLE, Format, Output, fail, note, print_json, say, table
from steelyard import SteelyardError
from steelyard.spool import DeadLetter, Depth, Spool, SpoolStats

app = typer.Typer(help="Spools: files in which producers keep usage until it is recorded.", no_args_is_help=True)

_LETTERS = 20
SpoolPath = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="the file that a producer writes to")]


@app.command("status")
def status(path: SpoolPath, output: Output = Format.TABLE) -> None:
    """Show how much is in the spool, how old it is, what became of the rest, and what was refused."""
    try:
        with Spool(path) as spool:
            stats, letters = spool.stats(), spool.dead_letters(_LETTERS)
    except SteelyardError as error:
        fail(error)
    if output is Format.JSON:
        print_json(_as_dict(stats, letters))
    else:
        _print(stats, letters)


@app.command("drain")
def drain(
    path: SpoolPath,
    timeout_s: Annotated[float, typer.Option("--timeout-s", min=0, help="how long to try")] = 3_600,
    retry_refused: Annotated[bool, typer.Option(help="also send what was refused before")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Send everything in the spool, with STEELYARD_API_KEY, and wait until it is recorded.

    Producers may go on meanwhile. Exit code 1 if something was refused or is parked, 3 if time ran out.
    """
    secret = api_key()
    try:
        with Spool(path, api_key=secret, endpoints=endpoints()) as spool:
            if retry_refused:
                spool.retry_dead_letters()
            before = spool.stats()
            note(f"{before.events:,} events are to be recorded")
            done = spool.drain(timeout_s)
            stats, letters, hindrance = spool.stats(), spool.dead_letters(_LETTERS), spool.last_error
    except SteelyardError as error:
        fail(error)
    if output is Format.JSON:
        print_json({"drained": done} | _as_dict(stats, letters))
    else:
        say(f"{stats.recorded - before.recorded:,} events are recorded")
        _print(stats, letters)
    if not done:
        note(hindrance or "time ran out")
        raise typer.Exit(EXIT_UNAVAILABLE)
    if stats.parked.events or stats.dead.events:
        raise typer.Exit(EXIT_NO)


def _as_dict(stats: SpoolStats, letters: list[DeadLetter]) -> dict[str, object]:
    depths = {
        name: {"batches": depth.batches, "events": depth.events, "bytes": depth.bytes}
        for name, depth in _depths(stats).items()
    }
    refused = [
        {"id": item.id, "created_at": item.created_at.isoformat(), "events": item.events, "refusal": item.refusal}
        for item in letters
    ]
    return depths | {"oldest_age_s": stats.oldest_age_s} | _counters(stats) | {"dead_letters": refused}


def _print(stats: SpoolStats, letters: list[DeadLetter]) -> None:
    table(
        ("STATE", "BATCHES#", "EVENTS#", "BYTES#"),
        ((name, depth.batches, depth.events, depth.bytes) for name, depth in _depths(stats).items()),
    )
    counters = ", ".join(f"{count:,} {name}" for name, count in _counters(stats).items())
    say(f"oldest: {stats.oldest_age_s:,.0f} s; since the file was made: {counters}")
    if letters:
        rows = ((item.id, item.created_at.isoformat(), item.events, item.refusal) for item in letters)
        table(("ID#", "RECORDED BY THE PRODUCER", "EVENTS#", "REFUSAL"), rows, title="dead letters, the oldest first")


def _depths(stats: SpoolStats) -> dict[str, Depth]:
    return {"pending": stats.pending, "sent": stats.sent, "parked": stats.parked, "dead": stats.dead}


def _counters(stats: SpoolStats) -> dict[str, int]:
    return {
        name: getattr(stats, name) for name in ("recorded", "resent", "rejected", "conflicts", "dropped", "released")
    }
