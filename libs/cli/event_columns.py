"""Columns of Parquet as text: the same text that the value would have in CSV or JSON."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, TypeAlias

PROPERTIES = "properties"
_TEXT_FIELDS = ("event_id", "event_type", "customer_id", "source")
_UNITS_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_NANOS = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Texts: TypeAlias = list[str | None]
Members: TypeAlias = list[list[tuple[str, str]] | None]
"""The properties of each row, of a column that holds several."""


class ColumnRefused(ValueError):
    """A column whose type cannot be sent exactly, or cannot be sent at all."""


class CellRefused(ValueError):
    """One value that is none; `index` is its row in the batch."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index


@dataclass(frozen=True, slots=True)
class ColumnRules:
    """What is done only if it is asked for: send floats by their shortest text; take times without a zone for UTC."""

    allow_float: bool = False
    assume_utc: bool = False


class ColumnReader:
    """Turns columns into text. `arrow` is the module pyarrow, which is imported only where it is needed."""

    def __init__(self, arrow: Any, rules: ColumnRules) -> None:
        self._arrow, self._types, self._rules = arrow, arrow.types, rules

    def texts(self, name: str, column: Any) -> Texts:
        """Return the text of each value, None for null.

        :raises ColumnRefused: naming the column; CellRefused: for a value
        """
        kind, types = column.type, self._types
        if types.is_dictionary(kind):
            return self.texts(name, column.dictionary_decode())
        is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
        if is_text or types.is_integer(kind) or types.is_null(kind):
            return self._cast(name, column)
        if isinstance(kind, self._arrow.UuidType):
            return [None if value is None else str(value) for value in column.to_pylist()]
        if name in _TEXT_FIELDS:
            raise ColumnRefused(f"column {name}: {kind} is neither text nor whole numbers")
        return self._other(name, column)

    def members(self, column: Any) -> Members:
        """Return the members of each value of the column `properties`, a struct or a map, without those that are null.

        :raises ColumnRefused: naming the column or member
        """
        kind = column.type
        if self._types.is_struct(kind):
            names = [field.name for field in kind]
            fields = [
                self.texts(f"{PROPERTIES}.{name}", item) for name, item in zip(names, column.flatten(), strict=True)
            ]
            return [_present(zip(names, texts, strict=True)) for texts in zip(*fields, strict=True)]
        if not self._types.is_map(kind):
            raise ColumnRefused(f"column {PROPERTIES}: {kind} is neither a struct nor a map")
        # `keys` and `items` are the members of all rows one after the other; the offsets say where those of each begin.
        offsets = column.offsets.to_pylist()
        try:
            keys, values = self.texts(f"{PROPERTIES} (keys)", column.keys), self.texts(PROPERTIES, column.items)
        except CellRefused as refused:
            raise CellRefused(bisect_right(offsets, refused.index) - 1, str(refused)) from refused
        return [
            _present(zip(keys[start:end], values[start:end], strict=True)) if is_valid else None
            for is_valid, (start, end) in zip(column.is_valid().to_pylist(), pairwise(offsets), strict=True)
        ]

    def _other(self, name: str, column: Any) -> Texts:
        kind, types = column.type, self._types
        if types.is_boolean(kind):
            return self._cast(name, column)
        if types.is_decimal(kind):
            return [None if value is None else format(value, "f") for value in column.to_pylist()]
        if types.is_timestamp(kind):
            return self._instants(name, column)
        if types.is_date32(kind):
            return [None if value is None else value.isoformat() for value in column.to_pylist()]
        if types.is_float32(kind) or types.is_float64(kind):
            return self._floats(name, column)
        nested = types.is_nested(kind)
        raise ColumnRefused(f"column {name}: {kind} is {'nested' if nested else 'no text and no number'}")

    def _cast(self, name: str, column: Any) -> Texts:
        try:
            texts: Texts = column.cast(self._arrow.string()).to_pylist()
        except UnicodeDecodeError as error:
            raise ColumnRefused(f"column {name}: not UTF-8 text") from error
        return texts

    def _floats(self, name: str, column: Any) -> Texts:
        if not self._rules.allow_float:
            raise ColumnRefused(
                f"column {name}: {column.type} cannot say 0.1, and what is billed has to be exact: write decimals, "
                "or say --allow-float to send the shortest text that means the same number"
            )
        for index, finite in enumerate(column.to_pylist()):
            if finite is not None and not abs(finite) < float("inf"):
                raise CellRefused(index, f"{name}: {finite} is no number")
        return self._cast(name, column)

    def _instants(self, name: str, column: Any) -> Texts:
        if column.type.tz is None and not self._rules.assume_utc:
            raise ColumnRefused(
                f"column {name}: times without a zone; whose midnight a use falls on decides which invoice it is on. "
                "Write them with their zone, or say --assume-utc if they are in UTC"
            )
        per_second = _UNITS_PER_SECOND[column.type.unit]
        texts: Texts = []
        for index, value in enumerate(column.cast(self._arrow.int64()).to_pylist()):
            try:
                texts.append(None if value is None else _rfc3339(value, per_second))
            except OverflowError as error:
                raise CellRefused(index, f"{name}: outside the years 1 to 9999") from error
        return texts


def _rfc3339(units: int, per_second: int) -> str:
    seconds, rest = divmod(units, per_second)
    fraction = f".{rest * (_NANOS // per_second):09d}".rstrip("0") if rest else ""
    return f"{(_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()}{fraction}Z"


def _present(members: Iterable[tuple[str | None, str | None]]) -> list[tuple[str, str]]:
    return [(name, text) for name, text in members if name is not None and text is not None]
