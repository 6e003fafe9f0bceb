"""Meters as YAML, one document each, with the field names of docs/guides/metering.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import yaml
from google.protobuf.message import Message

from steelyard.ingest.v1 import meter_pb2 as pb

_LENGTHS = {
    "minute": pb.BUCKET_LENGTH_MINUTE,
    "5_minutes": pb.BUCKET_LENGTH_FIVE_MINUTES,
    "15_minutes": pb.BUCKET_LENGTH_QUARTER_HOUR,
    "hour": pb.BUCKET_LENGTH_HOUR,
    "day": pb.BUCKET_LENGTH_DAY,
}
_EMPTY = {"zero": pb.EMPTY_QUANTITY_UNSPECIFIED, "null": pb.EMPTY_QUANTITY_NULL}
_SKIPS = {"zero": False, "skip": True}
_TRUTH = {"true": True, "false": False}


class MeterFileError(ValueError):
    """A file is not a list of meters; `problems` name the document and the field."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class _Enum(Protocol):
    def items(self) -> Sequence[tuple[str, int]]: ...


def read_meters(path: Path) -> list[pb.Meter]:
    """Return the meters of a file in their order.

    :raises MeterFileError: naming everything in it that is no meter
    :raises OSError: if it cannot be read
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise MeterFileError([f"no UTF-8: {error}"]) from error
    return parse_meters(text)


def parse_meters(text: str) -> list[pb.Meter]:
    """
    :raises MeterFileError: naming everything that is no meter
    """
    try:
        # Every scalar as the text that stands there: a number must not become a float on the way.
        documents = list(yaml.load_all(text, Loader=yaml.BaseLoader))
    except (yaml.YAMLError, RecursionError) as error:
        raise MeterFileError([f"no YAML: {error}"]) from error
    problems: list[str] = []
    meters = []
    for number, document in enumerate((item for item in documents if item not in (None, "")), start=1):
        reader = _Reader(f"document {number}", problems)
        meters.append(reader.message(pb.Meter(), document, _METER))
    names = [meter.meter_id for meter in meters if meter.meter_id]
    problems += [f"meter {name} stands there twice" for name in sorted({n for n in names if names.count(n) > 1})]
    if not meters and not problems:
        problems.append("there is no meter in it")
    if problems:
        raise MeterFileError(problems)
    return meters


class _Reader:
    """Reads one document; notes what is wrong under the path of the field and goes on."""

    def __init__(self, where: str, problems: list[str]) -> None:
        self._where, self._problems = where, problems

    def message(self, into: Any, given: object, fields: Mapping[str, _Field]) -> Any:
        """Fill a message from a mapping."""
        if not isinstance(given, dict):
            self._wrong("must be a mapping of fields")
            return into
        for name, value in given.items():
            inner = _Reader(f"{self._where}: {name}", self._problems)
            if name in fields:
                fields[name](inner, into, value)
            else:
                inner._wrong(f"is no field; known are {', '.join(fields)}")
        return into

    def text(self, given: object) -> str:
        if not isinstance(given, str):
            self._wrong("must be one value")
            return ""
        return given

    def one_of(self, given: object, choices: Mapping[str, Any]) -> Any:
        """The meaning of a word; that of the first one if it is none of them."""
        if isinstance(given, str) and given in choices:
            return choices[given]
        self._wrong(f"must be one of {', '.join(choices)}")
        return next(iter(choices.values()))

    def many(self, given: object) -> list[tuple[_Reader, object]]:
        if not isinstance(given, list):
            self._wrong("must be a list")
            return []
        return [(_Reader(f"{self._where}[{index}]", self._problems), item) for index, item in enumerate(given)]

    def whole(self, given: object) -> int:
        try:
            number = int(self.text(given))
        except ValueError:
            self._wrong("must be a whole number")
            return 0
        if abs(number) >= 1 << 31:
            self._wrong("is too large")
            return 0
        return number

    def _wrong(self, what: str) -> None:
        self._problems.append(f"{self._where}: {what}")


_Field = Callable[[_Reader, Any, object], None]


def _text(field: str) -> _Field:
    return lambda reader, into, given: setattr(into, field, reader.text(given))


def _word(field: str, choices: Mapping[str, Any]) -> _Field:
    return lambda reader, into, given: setattr(into, field, reader.one_of(given, choices))


def _whole(field: str) -> _Field:
    return lambda reader, into, given: setattr(into, field, reader.whole(given))


def _texts(field: str) -> _Field:
    return lambda reader, into, given: getattr(into, field).extend(
        [inner.text(item) for inner, item in reader.many(given)]
    )


def _nested(field: str, fields: Mapping[str, _Field]) -> _Field:
    def read(reader: _Reader, into: Any, given: object) -> None:
        found: Message = getattr(into, field)
        found.SetInParent()
        reader.message(found, given, fields)

    return read


def _filters(reader: _Reader, into: Any, given: object) -> None:
    for inner, item in reader.many(given):
        inner.message(into.filters.add(), item, _FILTER)


def _exclusions(reader: _Reader, into: Any, given: object) -> None:
    for inner, item in reader.many(given):
        _filters(inner, into.exclude.add(), item)


def _names(enum: _Enum, prefix: str) -> dict[str, int]:
    """The values of an enum by their short names."""
    return {name.removeprefix(prefix).lower(): number for name, number in enum.items() if number}


_AGGREGATIONS = _names(pb.Aggregation, "AGGREGATION_")
_FILTER: dict[str, _Field] = {
    "property": _text("property"),
    "value": _text("value"),
    "operator": _word("operator", _names(pb.FilterOperator, "FILTER_OPERATOR_")),
    "values": _texts("values"),
}
_BUCKETS: dict[str, _Field] = {
    "length": _word("length", _LENGTHS),
    "aggregation": _word("aggregation", _AGGREGATIONS),
    "time_zone": _text("time_zone"),
    "empty": _word("skip_empty", _SKIPS),
}
_ROUNDING: dict[str, _Field] = {
    "function": _word("function", _names(pb.RoundingFunction, "ROUNDING_FUNCTION_")),
    "digits": _whole("digits"),
}
_METER: dict[str, _Field] = {
    **{name: _text(name) for name in ("meter_id", "display_name", "description", "event_type", "expression", "unit")},
    **{name: _text(name) for name in ("unit_property", "operation_property", "percentile", "multiplier")},
    **{name: _word(name, _TRUTH) for name in ("carry_over", "prorated", "negative_as_zero")},
    "aggregation": _word("aggregation", _AGGREGATIONS),
    "filters": _filters,
    "exclude": _exclusions,
    "group_by": _texts("group_by"),
    "buckets": _nested("buckets", _BUCKETS),
    "level_unit": _word("level_unit", _names(pb.LevelUnit, "LEVEL_UNIT_")),
    "rounding": _nested("rounding", _ROUNDING),
    "empty": _word("empty", _EMPTY),
}
