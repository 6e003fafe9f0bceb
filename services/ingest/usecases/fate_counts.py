"""Ask how many events met each fate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from libs.errors import InvalidInput
from libs.periods import Period
from services.ingest.domain.fate_counts import FateCounts
from services.ingest.domain.log_chain import hour_of

MAX_SOURCES_ASKED = 100


class Span(StrEnum):
    """Over which time events are counted together: hours or days of UTC, or all that was asked for."""

    HOUR = "hour"
    DAY = "day"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class FateQuestion:
    """Which events, by their time of receipt in whole hours; no sources: of all.

    :raises InvalidInput: NOT_AN_HOUR, TOO_MANY
    """

    period: Period
    sources: Sequence[str]
    span: Span

    def __post_init__(self) -> None:
        for name, at in (("start_time", self.period.start), ("end_time", self.period.end)):
            if at != hour_of(at):
                raise InvalidInput.of(name, "NOT_AN_HOUR", "must be the start of an hour, UTC")
        if len(self.sources) > MAX_SOURCES_ASKED:
            raise InvalidInput.of("sources", "TOO_MANY", f"must be at most {MAX_SOURCES_ASKED}")


@dataclass(frozen=True, slots=True)
class CountedFates:
    """What was received from a source in the span of time that begins at `start`."""

    start: datetime
    source: str
    counts: FateCounts


class FateCountStore(Protocol):
    """Reads counts of one tenant."""

    async def counts(
        self, tenant_id: str, question: FateQuestion, after: tuple[datetime, str] | None, limit: int
    ) -> list[CountedFates]:
        """By start and source, those behind `after`."""

    async def total(self, tenant_id: str, question: FateQuestion) -> FateCounts:
        """Of all that was asked for."""
