"""Quantities of billing periods that windows do not add up to: what is asked of ingest, and what it tells."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from libs.periods import Period
from services.rating.domain.billing_period import PeriodKey


class QuantityScope(NamedTuple):
    """A customer, a meter and a time whose exact quantity is asked for; prorated ones count days of the IANA zone."""

    customer_id: str
    meter_id: str
    period: Period
    time_zone: str = "UTC"


class ExactUsage(NamedTuple):
    """The quantity of a meter in a billing period as ingest computed it; `highest_version` is that of the windows that
    it answers for."""

    value: Decimal
    event_count: int
    highest_version: int


@dataclass(frozen=True, slots=True)
class Questions:
    """What has to be asked of ingest for billing periods. `number` is drawn before: a higher one sees at least what was
    there when a lower one was answered first."""

    number: int
    wanted: Mapping[PeriodKey, Sequence[QuantityScope]]

    def without(self, keys: Collection[PeriodKey]) -> Questions:
        """The questions of all other billing periods."""
        return Questions(self.number, {key: scopes for key, scopes in self.wanted.items() if key not in keys})


@dataclass(frozen=True, slots=True)
class Answers:
    """What ingest told to the questions of that number; what it did not answer is left out."""

    number: int = 0
    told: Mapping[tuple[PeriodKey, QuantityScope], ExactUsage] = field(default_factory=dict)
