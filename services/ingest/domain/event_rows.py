"""The events of a batch as expressions read them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache

from libs.money import QUANTITY_CONTEXT, DecimalRejected, parse_decimal
from services.ingest.domain.usage_batch import UsageColumns

# The same small numbers come again and again; a hit costs an eighth of parsing.
_parse = lru_cache(maxsize=1 << 16)(parse_decimal)


MISSING_PROPERTY = "MISSING_PROPERTY"


class UnusableProperty(ValueError):
    """An event lacks a property that an expression reads (MISSING_PROPERTY), or has no number there."""

    def __init__(self, name: str, reason: str, description: str) -> None:
        super().__init__(description)
        self.name = name
        self.reason = reason


class PropertyRows:
    """Some rows of a batch; a property that several meters read as a number in all of them is parsed once."""

    def __init__(self, rows: list[int], events: UsageColumns) -> None:
        self.rows = rows
        self.properties = events.properties
        self._events = events
        self._numbers: dict[str, list[Decimal]] = {}

    def of(self, rows: list[int]) -> PropertyRows:
        """Those of a meter's own rows."""
        return self if rows is self.rows else PropertyRows(rows, self._events)

    def numbers(self, name: str, rows: Sequence[int]) -> list[Decimal]:
        """
        :raises UnusableProperty: if a row lacks the property, or it is no number
        """
        found = self._numbers.get(name) if rows is self.rows else None
        if found is None:
            texts = self.texts(name, rows)
            try:
                found = list(map(_parse, texts))
            except DecimalRejected as error:
                raise UnusableProperty(name, error.reason, str(error)) from error
            if rows is self.rows:
                self._numbers[name] = found
        return found

    def texts(self, name: str, rows: Sequence[int]) -> list[str]:
        """
        :raises UnusableProperty: if a row lacks the property
        """
        properties = self.properties
        try:
            return [properties[row][name] for row in rows]
        except KeyError as error:
            raise UnusableProperty(name, MISSING_PROPERTY, "is missing") from error

    def types(self, rows: Sequence[int]) -> list[str]:
        return [self._events.event_types[row] for row in rows]

    def timestamps(self, rows: Sequence[int]) -> list[Decimal]:
        return [QUANTITY_CONTEXT.scaleb(Decimal(self._events.times_ns[row]), -9) for row in rows]
