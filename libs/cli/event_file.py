"""Files of usage events: what a file is, and its events with the place where each one ends."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import IO, NamedTuple, cast

from libs.cli.event_cloud import json_events, protobuf_events
from libs.cli.event_columns import ColumnRules
from libs.cli.event_of_row import event_of, not_an_event
from libs.cli.event_parquet import ParquetReader, ParquetUnreadable
from libs.cli.event_rows import REQUIRED, START, Mark, RowError, Rows, csv_rows, json_rows
from steelyard import UsageEvent
from steelyard.cloud_events_time import event_from_pb

STDIN = Path("-")
LARGEST_EVENT_BYTES = 700_000
"""Ingest takes 768 kB in one call."""
_GZIP = ".gz"


class FileFormat(Enum):
    """What `--format` takes."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    CLOUDEVENTS = "cloudevents"
    CLOUDEVENTS_PROTOBUF = "cloudevents-protobuf"


_BY_SUFFIX = {
    ".csv": FileFormat.CSV,
    ".jsonl": FileFormat.JSONL,
    ".ndjson": FileFormat.JSONL,
    ".parquet": FileFormat.PARQUET,
    ".json": FileFormat.CLOUDEVENTS,
    ".pb": FileFormat.CLOUDEVENTS_PROTOBUF,
}
_CLOUDEVENTS = (FileFormat.CLOUDEVENTS, FileFormat.CLOUDEVENTS_PROTOBUF)


class EventFileError(ValueError):
    """A file or line that holds no event; the message names both."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file is read. `event_type` is that of events that name none; `format` None: the name says it."""

    event_type: str = ""
    format: FileFormat | None = None
    derive_ids: bool = False
    columns: ColumnRules = field(default_factory=ColumnRules)


class ReadEvent(NamedTuple):
    """An event, its encoded size, and where the next one starts."""

    event: UsageEvent
    size_bytes: int
    end: Mark


class EventFile:
    """One file of usage events, or standard input. Open it once; read it once."""

    def __init__(self, path: Path, reading: Reading) -> None:
        """
        :raises EventFileError: if neither its name nor the options say how to read it
        """
        self.path, self._reading = path, reading
        self.format, self._is_compressed = _format_of(path, reading.format)
        self._raw: IO[bytes] | None = None
        self._rows_read, self.size = 0, None if path == STDIN or not path.is_file() else path.stat().st_size
        if reading.derive_ids and self.size is None:
            raise EventFileError(f"{path}: ids are derived from the whole content, so it has to be a file")
        if reading.derive_ids and self.format in _CLOUDEVENTS:
            raise EventFileError(f"{path}: CloudEvents have ids of their own")

    @property
    def reached(self) -> int:
        """How much of `size` is read: compressed bytes, or rows of Parquet."""
        return self._rows_read if self._raw is None else self._raw.tell()

    def events(self, start: Mark = START) -> Iterator[ReadEvent]:
        """Yield the events from a mark on, in the order of the file.

        :raises EventFileError: naming file and line
        :raises OSError: if the file cannot be read
        """
        try:
            if self.format is FileFormat.PARQUET:
                yield from self._of_parquet(start)
            else:
                with self._opened() as file:
                    yield from self._of_file(file, start)
        except RowError as error:
            raise EventFileError(f"{self.path}:{error.line}: {error}") from error
        except ParquetUnreadable as error:
            raise EventFileError(f"{self.path}: {error}") from error
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise EventFileError(f"{self.path}: not a whole gzip file: {error}") from error

    def _of_parquet(self, start: Mark) -> Iterator[ReadEvent]:
        if self.path == STDIN:
            raise ParquetUnreadable("Parquet begins at its end, so it has to be a file")
        reader = ParquetReader(self.path, self._reading.columns, self._required())
        self.size, self._rows_read = reader.rows_total, start.offset
        for item in self._of_rows(reader.rows(start), self._id_prefix()):
            self._rows_read = item.end.offset
            yield item

    def _of_file(self, file: IO[bytes], start: Mark) -> Iterator[ReadEvent]:
        if self.format in _CLOUDEVENTS:
            return self._of_cloud_events(file, start)
        rows = csv_rows(file, start, self._required()) if self.format is FileFormat.CSV else json_rows(file, start)
        return self._of_rows(rows, self._id_prefix())

    def _of_rows(self, rows: Rows, id_prefix: str) -> Iterator[ReadEvent]:
        for line, row, end in rows:
            if id_prefix and not row.get("event_id"):
                row["event_id"] = f"{id_prefix}:{line}"
            with not_an_event(line):
                event = event_of(row, self._reading.event_type)
                # Encoded and thrown away: when it is sent, nobody knows its line any more.
                size_bytes = event.to_pb("").ByteSize()
            yield _checked(ReadEvent(event, size_bytes, end), line)

    def _of_cloud_events(self, file: IO[bytes], start: Mark) -> Iterator[ReadEvent]:
        rows = json_events if self.format is FileFormat.CLOUDEVENTS else protobuf_events
        for line, mapped, end in rows(file, start):
            if mapped.problem is not None:
                raise RowError(line, ": ".join(filter(None, (mapped.problem.field, mapped.problem.description))))
            yield _checked(ReadEvent(event_from_pb(mapped.event), mapped.event.ByteSize(), end), line)

    def _required(self) -> tuple[str, ...]:
        return tuple(name for name in REQUIRED if name != "event_id" or not self._reading.derive_ids)

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        # A file object of its own also for standard input: Python closes sys.stdin at its end, and would wait for a
        # thread that reads from it.
        with open(0 if self.path == STDIN else self.path, "rb", closefd=self.path != STDIN) as raw:
            self._raw = raw if self.size is not None else None
            yield _decompressed(raw) if self._is_compressed else raw

    def _id_prefix(self) -> str:
        """A hash of the content, decompressed: the same content gives the same ids."""
        if not self._reading.derive_ids:
            return ""
        digest = hashlib.blake2b(digest_size=16)
        with open(self.path, "rb") as raw:
            file = _decompressed(raw) if self._is_compressed else raw
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()


def _format_of(path: Path, given: FileFormat | None) -> tuple[FileFormat, bool]:
    """The format, and whether it is compressed."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    is_compressed = suffixes[-1:] == [_GZIP]
    telling = suffixes[-2:-1] if is_compressed else suffixes[-1:]
    found = given or (_BY_SUFFIX.get(telling[0]) if telling else None)
    if path == STDIN:
        return given or FileFormat.JSONL, False
    if found is None:
        raise EventFileError(f"{path}: {_SAY_HOW}")
    if is_compressed and found is FileFormat.PARQUET:
        raise EventFileError(f"{path}: Parquet is compressed inside; it is not read from a .gz")
    return found, is_compressed


_SAY_HOW = f"the name must end in {', '.join(_BY_SUFFIX)} (or that and .gz), or --format must say how to read it"


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    return cast("IO[bytes]", gzip.GzipFile(fileobj=file))


def _checked(item: ReadEvent, line: int) -> ReadEvent:
    if item.size_bytes > LARGEST_EVENT_BYTES:
        raise RowError(line, f"an event of {item.size_bytes:,} bytes; {LARGEST_EVENT_BYTES:,} is the limit")
    return item
