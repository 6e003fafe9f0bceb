"""The enums of meters on the wire, and the texts that they are here."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, TypeVar

from libs.errors import InvalidInput
from libs.money import RoundingFunction
from services.ingest.domain.filters import FilterOperator
from services.ingest.domain.meter_options import Aggregation, BucketLength, EmptyResult, LevelUnit
from steelyard.ingest.v1 import meter_pb2 as pb

T = TypeVar("T", bound=StrEnum)


class Numbered(Generic[T]):
    """The numbers of an enum; `default` is what 0 means, if it means anything."""

    def __init__(self, numbers: Mapping[T, int], default: T | None = None) -> None:
        self._numbers = dict(numbers)
        self._values = {number: value for value, number in numbers.items()}
        if default is not None:
            self._values[0] = default

    def to_pb(self, value: T) -> int:
        return self._numbers[value]

    def from_pb(self, number: int, field: str) -> T:
        """
        :raises InvalidInput: if the number means nothing here
        """
        value = self._values.get(number)
        if value is None:
            allowed = ", ".join(value.upper() for value in self._numbers)
            raise InvalidInput.of(field, "UNKNOWN" if number else "REQUIRED", f"must be one of {allowed}")
        return value


AGGREGATION = Numbered(
    {
        Aggregation.COUNT: pb.AGGREGATION_COUNT,
        Aggregation.SUM: pb.AGGREGATION_SUM,
        Aggregation.MIN: pb.AGGREGATION_MIN,
        Aggregation.MAX: pb.AGGREGATION_MAX,
        Aggregation.AVG: pb.AGGREGATION_AVG,
        Aggregation.LATEST: pb.AGGREGATION_LATEST,
        Aggregation.UNIQUE_COUNT: pb.AGGREGATION_UNIQUE_COUNT,
        Aggregation.WEIGHTED_SUM: pb.AGGREGATION_WEIGHTED_SUM,
        Aggregation.PERCENTILE: pb.AGGREGATION_PERCENTILE,
    }
)
FILTER_OPERATOR = Numbered(
    {
        FilterOperator.EQUALS: pb.FILTER_OPERATOR_EQUALS,
        FilterOperator.NOT_EQUALS: pb.FILTER_OPERATOR_NOT_EQUALS,
        FilterOperator.IN: pb.FILTER_OPERATOR_IN,
        FilterOperator.NOT_IN: pb.FILTER_OPERATOR_NOT_IN,
        FilterOperator.EXISTS: pb.FILTER_OPERATOR_EXISTS,
        FilterOperator.NOT_EXISTS: pb.FILTER_OPERATOR_NOT_EXISTS,
        FilterOperator.LESS_THAN: pb.FILTER_OPERATOR_LESS_THAN,
        FilterOperator.LESS_OR_EQUAL: pb.FILTER_OPERATOR_LESS_OR_EQUAL,
        FilterOperator.GREATER_THAN: pb.FILTER_OPERATOR_GREATER_THAN,
        FilterOperator.GREATER_OR_EQUAL: pb.FILTER_OPERATOR_GREATER_OR_EQUAL,
    },
    FilterOperator.EQUALS,
)
BUCKET_LENGTH = Numbered(
    {
        BucketLength.MINUTE: pb.BUCKET_LENGTH_MINUTE,
        BucketLength.FIVE_MINUTES: pb.BUCKET_LENGTH_FIVE_MINUTES,
        BucketLength.QUARTER_HOUR: pb.BUCKET_LENGTH_QUARTER_HOUR,
        BucketLength.HOUR: pb.BUCKET_LENGTH_HOUR,
        BucketLength.DAY: pb.BUCKET_LENGTH_DAY,
    }
)
LEVEL_UNIT = Numbered(
    {
        LevelUnit.PERIOD: pb.LEVEL_UNIT_PERIOD,
        LevelUnit.SECOND: pb.LEVEL_UNIT_SECOND,
        LevelUnit.MINUTE: pb.LEVEL_UNIT_MINUTE,
        LevelUnit.HOUR: pb.LEVEL_UNIT_HOUR,
        LevelUnit.DAY: pb.LEVEL_UNIT_DAY,
    },
    LevelUnit.PERIOD,
)
ROUNDING_FUNCTION = Numbered(
    {
        RoundingFunction.ROUND: pb.ROUNDING_FUNCTION_ROUND,
        RoundingFunction.CEIL: pb.ROUNDING_FUNCTION_CEIL,
        RoundingFunction.FLOOR: pb.ROUNDING_FUNCTION_FLOOR,
    }
)
EMPTY_QUANTITY = Numbered(
    {EmptyResult.ZERO: pb.EMPTY_QUANTITY_ZERO, EmptyResult.NULL: pb.EMPTY_QUANTITY_NULL}, EmptyResult.ZERO
)
