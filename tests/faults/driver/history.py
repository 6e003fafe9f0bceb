"""The history of a run as JSONL: one line per operation and phase of it, in the order in which the driver saw them.

`{"at": seconds (monotonic), "wall": seconds since 1970, "op": n, "phase": "invoke"|"ok"|"fail"|"unknown"|"note",
"what": "ingest" ..., ...}`. An operation that was invoked ends in exactly one of: *ok* (with the answer), *fail* (it
had no effect), *unknown* (it may have had any). Checkers read the file and know nothing else of the driver.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

INVOKE, OK, FAIL, UNKNOWN, NOTE = "invoke", "ok", "fail", "unknown", "note"


@dataclass(frozen=True, slots=True)
class Record:
    """One line; `data` is what is particular to `what`."""

    at: float
    wall: float
    op: int
    phase: str
    what: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation from its invocation to its end; `end` is None if the driver ended first."""

    invoke: Record
    end: Record | None

    @property
    def phase(self) -> str:
        """How it ended; what never ended is unknown."""
        return self.end.phase if self.end else UNKNOWN


class History:
    """Writes the file, line by line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("w")
        self._ops = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def invoke(self, what: str, **data: Any) -> int:
        """Note that an operation begins and return its number."""
        self._ops += 1
        self._write(self._ops, INVOKE, what, data)
        return self._ops

    def end(self, op: int, phase: str, what: str, **data: Any) -> None:
        """Note how an operation ended: OK, FAIL or UNKNOWN."""
        self._write(op, phase, what, data)

    def note(self, what: str, **data: Any) -> None:
        """Note something that is no operation: a fault, an observation."""
        self._write(0, NOTE, what, data)

    def _write(self, op: int, phase: str, what: str, data: dict[str, Any]) -> None:
        line = {"at": round(time.monotonic(), 6), "wall": time.time(), "op": op, "phase": phase, "what": what, **data}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def read(path: Path) -> list[Record]:
    """Read a history file."""
    records = []
    for line in path.read_text().splitlines():
        data = json.loads(line)
        head = {name: data.pop(name) for name in ("at", "wall", "op", "phase", "what")}
        records.append(Record(**head, data=data))
    return records


def operations(records: Sequence[Record], what: str) -> Iterator[Operation]:
    """Yield the operations of a kind by their invocation."""
    ends = {record.op: record for record in records if record.op and record.phase != INVOKE}
    for record in records:
        if record.phase == INVOKE and record.what == what:
            yield Operation(record, ends.get(record.op))
