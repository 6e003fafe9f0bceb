"""Files of CloudEvents: JSON (events one after the other, or an array of them) and the protobuf batch."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

from google.protobuf.message import DecodeError

from libs.cli.event_rows import LONGEST_LINE_BYTES, START, Mark, RowError
from steelyard.cloud_events_forms import map_json, map_protobuf
from steelyard.cloud_events_json import EXACT_JSON
from steelyard.cloud_events_mapping import MappedEvent
from steelyard.cloudevents.v1 import cloud_event_pb2

_BLANKS = re.compile(r"[ \t\r\n]*")
_LONGEST = LONGEST_LINE_BYTES
_EVENT_OF_BATCH = b"\x0a"  # Field 1, with a length.
_VARINT_BYTES = 5


class CloudRow(NamedTuple):
    """The line that an event starts in (of protobuf: its number), the event, and where the next one starts."""

    line: int
    mapped: MappedEvent
    end: Mark


class _Window:
    """A stretch of a JSON text that holds at least the longest event, unless the file ends in it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._go_to(START)

    def _go_to(self, mark: Mark) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.mark, self.text, self.ended, self._at = mark, "", False, 0

    def go_on_at(self, mark: Mark) -> None:
        """Go to a mark behind this one. Only then is the file asked to seek, which a pipe cannot."""
        if mark.offset > self.mark.offset:
            self._file.seek(mark.offset)
            self._go_to(mark)

    def next_character(self) -> str:
        """Pass over blanks; return the character there, or nothing at the end."""
        while True:
            self._fill()
            end = _BLANKS.match(self.text, self._at).end()  # type: ignore[union-attr]  # It matches everywhere.
            self._pass(end)
            if self._at < len(self.text) or self.ended:
                return self.text[self._at : self._at + 1]

    def pass_character(self) -> None:
        self._pass(self._at + 1)

    def value(self) -> Any:
        """Pass over the JSON value that is here, and return it.

        :raises RowError: if there is none, or one that is too long
        """
        try:
            value, end = EXACT_JSON.raw_decode(self.text, self._at)
        except json.JSONDecodeError as error:
            hint = "" if self.ended else f" (or longer than {_LONGEST:,} characters)"
            raise RowError(self.mark.line, f"not JSON{hint}: {error.msg}") from error
        except RecursionError as error:
            raise RowError(self.mark.line, "too deeply nested") from error
        self._pass(end)
        return value

    def _fill(self) -> None:
        if self.ended or len(self.text) - self._at >= _LONGEST:
            return
        parts = [self.text[self._at :]]
        while not self.ended and sum(map(len, parts)) < 2 * _LONGEST:
            data = self._file.read(_LONGEST)
            self.ended = not data
            parts.append(self._decoder.decode(data, final=self.ended))
        self.text, self._at = "".join(parts), 0
        if self.mark == START and self.text.startswith("\ufeff"):
            self._pass(1)

    def _pass(self, end: int) -> None:
        passed = self.text[self._at : end]
        size_bytes = len(passed.encode("utf-8", "surrogateescape"))
        self.mark = Mark(self.mark.offset + size_bytes, self.mark.line + passed.count("\n"))
        self._at = end


def json_events(file: IO[bytes], start: Mark) -> Iterator[CloudRow]:
    """Yield the events of an array of any size, or those that stand one after the other, as in lines.

    :raises RowError: if it is neither
    """
    window = _Window(file)
    is_array = window.next_character() == "["
    if is_array:
        window.pass_character()
    is_first = start.offset <= window.mark.offset
    window.go_on_at(start)
    while character := window.next_character():
        if is_array and character == "]":
            window.pass_character()
            _end(window)
            return
        if is_array and not is_first:
            _comma(window, character)
        is_first = False
        line = window.mark.line
        value = window.value()
        yield CloudRow(line, map_json(value), window.mark)
    if is_array:
        raise RowError(window.mark.line, "the array has no end")


def _comma(window: _Window, character: str) -> None:
    if character != ",":
        raise RowError(window.mark.line, "not JSON: Expecting ',' or ']' between events")
    window.pass_character()
    window.next_character()


def _end(window: _Window) -> None:
    if window.next_character():
        raise RowError(window.mark.line, "not JSON: something stands behind the array")


def protobuf_events(file: IO[bytes], start: Mark) -> Iterator[CloudRow]:
    """Yield the events of an io.cloudevents.v1.CloudEventBatch of any size, one at a time.

    :raises RowError: if it is none
    """
    mark = start
    if start.offset:
        file.seek(start.offset)
    while tag := file.read(1):
        if tag != _EVENT_OF_BATCH:
            raise RowError(mark.line, "not a CloudEventBatch; a single CloudEvent is a batch only inside of one")
        size_bytes, length_bytes = _varint(file, mark.line)
        if size_bytes > _LONGEST:
            raise RowError(mark.line, f"not a CloudEventBatch, or an event of more than {_LONGEST:,} bytes")
        content = file.read(size_bytes)
        if len(content) < size_bytes:
            raise RowError(mark.line, "the file ends within an event")
        try:
            message = cloud_event_pb2.CloudEvent.FromString(content)
        except DecodeError as error:
            raise RowError(mark.line, "not a CloudEvent") from error
        line, mark = mark.line, Mark(mark.offset + 1 + length_bytes + size_bytes, mark.line + 1)
        yield CloudRow(line, map_protobuf(message), mark)


def _varint(file: IO[bytes], line: int) -> tuple[int, int]:
    """Read a length; return it and how many bytes it has itself."""
    value = 0
    for index in range(_VARINT_BYTES):
        byte = file.read(1)
        if not byte:
            raise RowError(line, "the file ends within an event")
        value |= (byte[0] & 0x7F) << (7 * index)
        if byte[0] < 0x80:
            return value, index + 1
    raise RowError(line, "not a CloudEventBatch")
