"""steelyard events send"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from libs.cli.connection import api_key, as_tenant
from libs.cli.event_chunks import Chunk, chunks_of
from libs.cli.event_columns import ColumnRules
from libs.cli.event_file import STDIN, EventFile, EventFileError, FileFormat, Reading
from libs.cli.event_progress import SendingProgress
from libs.cli.event_resume import Answered, NothingToResume, ResumeFile
from libs.cli.event_rows import START
from libs.cli.event_sending import print_report, send_file
from libs.cli.output import EXIT_NO, EXIT_USAGE, Format, Output, fail, note
from steelyard import Ack, Client, DeliveryReport, Verdict

_SUFFIXES = ".csv, .jsonl, .parquet, .json or .pb (CloudEvents), also .gz; - is standard input"


def _existing(path: Path) -> Path:
    """Refuse what is no file. A pipe is one, and so is `-`, which `exists=True` does not know."""
    if path != STDIN and not path.exists():
        raise typer.BadParameter(f"file '{path}' does not exist")
    if path.is_dir():
        raise typer.BadParameter(f"'{path}' is a directory")
    return path


def send(
    file: Annotated[Path, typer.Argument(callback=_existing, help=_SUFFIXES)],
    event_type: Annotated[str, typer.Option("--type", help="type of events that name none")] = "",
    file_format: Annotated[FileFormat | None, typer.Option("--format", help="default: the name says it")] = None,
    derive_ids: Annotated[bool, typer.Option("--derive-ids", help="ids from content and line, if it has none")] = False,
    allow_float: Annotated[bool, typer.Option("--allow-float", help="of Parquet: send floats as text")] = False,
    assume_utc: Annotated[bool, typer.Option("--assume-utc", help="of Parquet: times without zone are UTC")] = False,
    resume: Annotated[
        bool | None,
        typer.Option("--resume/--restart", help="insist on going on; start over [default: go on if that is possible]"),
    ] = None,
    wait: Annotated[bool, typer.Option(help="wait until recorded, so that duplicates are known")] = True,
    output: Output = Format.TABLE,
) -> None:
    """Send the events of FILE. Sending it again is safe; exit code 1 if events were rejected or are in conflict.

    A line of .jsonl is {"event_id": "e1", "event_type": "llm.request", "customer_id": "cust-1",
    "event_time": "2026-01-31T23:59:59Z", "properties": {"input_tokens": 812}}, with "source" if you have several.
    CSV and Parquet have the same names as columns; each further column is a property.

    How far it is answered is noted in FILE.sending, until all is: after an interruption the same command goes on there.
    """
    reading = Reading(event_type, file_format, derive_ids, ColumnRules(allow_float, assume_utc))
    sending: _FileSending | None = None
    try:
        sending = _FileSending(file, reading, Ack.RECORDED if wait else Ack.QUEUED, resume)
        as_tenant(sending.run)
    except BaseException as error:
        if sending is not None:
            sending.say_how_far()
        if isinstance(error, EventFileError | NothingToResume | OSError):
            fail(error, EXIT_USAGE)
        raise
    print_report(sending.total, output)
    if sending.total.counts[Verdict.REJECTED] or sending.total.counts[Verdict.CONFLICT]:
        raise typer.Exit(EXIT_NO)


class _FileSending:
    """One run of the command: `total` is what became of the file's events, those of an earlier run included."""

    def __init__(self, path: Path, reading: Reading, ack: Ack, resume: bool | None) -> None:
        self._file, self._ack = EventFile(path, reading), ack
        columns = reading.columns
        if self._file.format is not FileFormat.PARQUET and (columns.allow_float or columns.assume_utc):
            raise EventFileError(f"{path}: --allow-float and --assume-utc are for Parquet")
        self.total = DeliveryReport()
        self._answered = Answered(START, Counter())
        self._before = 0
        self._state = _state(path, self._file, reading)
        if resume is not False:
            self._go_on(insisted=resume is True)

    async def run(self, client: Client) -> None:
        with SendingProgress() as progress:

            def answered(chunk: Chunk, report: DeliveryReport) -> None:
                self.total.counts.update(report.counts)
                self.total.problems.extend(report.problems[: self.total.MAX_PROBLEMS - len(self.total.problems)])
                self._answered = Answered(chunk.end, self.total.counts)
                if self._state is not None:
                    self._state.save(self._answered)
                progress.show(self.total.total - self._before, chunk.reached, self._file.size)

            await send_file(client, chunks_of(self._file, self._answered.mark), self._ack, answered)
        if self._state is not None:
            self._state.remove()

    def say_how_far(self) -> None:
        """Note what an interrupted run leaves behind."""
        if self.total.total == self._before:
            return
        text = "the whole file may be sent again"
        if self._state is not None and self._state.save(self._answered, is_last=True):
            text = "the same command goes on behind them, with --restart it sends the whole file again"
        note(f"events answered before that: {self.total.total:,}; {text}")

    def _go_on(self, *, insisted: bool) -> None:
        try:
            if self._state is None:
                raise NothingToResume("standard input and pipes cannot be gone on with")
            self._answered = self._state.load()
        except NothingToResume as error:
            if insisted:
                raise
            if self._state is not None and self._state.path.exists():
                note(f"starting over: {error}")
            return
        self.total.counts.update(self._answered.counts)
        self._before = self.total.total
        note(
            f"going on at {self._file.path}:{self._answered.mark.line}, behind {self._before:,} events that were "
            "answered before; --restart sends them again"
        )


def _state(path: Path, file: EventFile, reading: Reading) -> ResumeFile | None:
    if path == STDIN or file.size is None:
        return None
    options = {
        "format": file.format.value,
        "type": reading.event_type,
        "derive_ids": str(reading.derive_ids),
        "columns": repr(reading.columns),
    }
    return ResumeFile(path, api_key(), options)
