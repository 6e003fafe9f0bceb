"""The quantity of a meter over any time, split as asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from libs.errors import InvalidInput
from libs.periods import Period
from services.ingest.domain.meter import Meter
from services.ingest.usecases.usage_parts import Evaluation, UsagePart, evaluation_of, usage_of_part, usage_of_parts
from services.ingest.usecases.usage_question import GroupKey, UsageQuestion, UsageSelection, select_usage
from services.ingest.usecases.usage_rows import Cursor, EventGroup, UsageRow, chosen_groups, usage_of_events

MAX_EVENTS = 1_000_000
"""That a question may read from the log, where the database cannot evaluate them."""
MAX_PARTS = 500_000
"""That rows may be put together from."""


class UsageStore(Protocol):
    async def meter(self, tenant_id: str, meter_id: str) -> Meter:
        """
        :raises MeterNotFound: if there is no such meter
        """

    async def rows(self, selection: UsageSelection, meter: Meter, after: Cursor | None, limit: int) -> list[UsagePart]:
        """Return rows with events, ordered by time, customer and dimensions, those behind `after`.

        Only of meters whose rows are whole.
        """

    async def greatest(self, selection: UsageSelection, meter: Meter, limit: int) -> list[UsagePart]:
        """Return the groups with the greatest quantities, in the order of these, then of customer and dimensions. Of a
        selection with one time, and only of meters whose rows are whole."""

    async def parts(self, selection: UsageSelection, meter: Meter, limit: int) -> list[UsagePart]:
        """Return the parts of all rows, in any order, not more than `limit`.

        Only of meters whose rows are made of parts.
        """

    async def events(
        self, question: UsageQuestion, meter: Meter, start: datetime | None, limit: int
    ) -> list[EventGroup]:
        """Return what the meter measured in the first `limit` events before the end asked for, by group; from `start`
        on if there is one."""


class QueryUsage:
    """Answers from windows, and exactly at edges inside them; what windows do not tell, from the log."""

    def __init__(self, *, usage: UsageStore) -> None:
        self._usage = usage

    async def __call__(
        self, question: UsageQuestion, after: Cursor | None, limit: int
    ) -> tuple[Sequence[Period], list[UsageRow]]:
        """Return the times of all rows, and at most `limit` rows behind `after`.

        :raises MeterNotFound: if there is no such meter
        :raises InvalidInput: naming what is wrong with the question
        """
        meter = await self._usage.meter(question.tenant_id, question.meter_id)
        selection = select_usage(question, meter)
        if not question.top_groups:
            return selection.rows, await self._rows(selection, meter, after, limit)
        top = await self._top(question, meter)
        chosen = [(row.customer_id, row.dimensions_text) for row in top]
        if question.size is None and not question.include_others:
            rows = _page(sorted(top, key=lambda row: row.place), after, limit)
        else:
            rows = await self._rows(replace(selection, chosen=chosen), meter, after, limit)
        return selection.rows, _ranked(rows, chosen)

    async def _top(self, question: UsageQuestion, meter: Meter) -> list[UsageRow]:
        """The groups with the greatest quantities over the whole time, the greatest first."""
        whole = replace(question, size=None, anchor_day=0, top_groups=0, include_others=False)
        selection = select_usage(whole, meter)
        if evaluation_of(meter) is Evaluation.WHOLE:
            parts = await self._usage.greatest(selection, meter, question.top_groups)
            return [row for part in parts if (row := usage_of_part(meter, part))]
        rows = await self._all_rows(selection, meter)
        return sorted(rows, key=lambda row: (-row.value, row.place))[: question.top_groups]

    async def _rows(self, selection: UsageSelection, meter: Meter, after: Cursor | None, limit: int) -> list[UsageRow]:
        if evaluation_of(meter) is Evaluation.WHOLE:
            parts = await self._usage.rows(selection, meter, after, limit)
            return [row for part in parts if (row := usage_of_part(meter, part))]
        return _page(await self._all_rows(selection, meter), after, limit)

    async def _all_rows(self, selection: UsageSelection, meter: Meter) -> list[UsageRow]:
        """Of a meter whose rows the database cannot tell, in order."""
        question = selection.question
        if evaluation_of(meter) is Evaluation.PARTS:
            parts = await self._usage.parts(selection, meter, MAX_PARTS + 1)
            if len(parts) > MAX_PARTS:
                raise _too_many("TOO_MANY_PARTS", f"more than {MAX_PARTS} buckets or rows")
            return usage_of_parts(meter, parts, selection.rows)
        start = None if meter.carry_over else question.start
        groups = await self._usage.events(question, meter, start, MAX_EVENTS + 1)
        if sum(len(group.events) for group in groups) > MAX_EVENTS:
            raise _too_many("TOO_MANY_EVENTS", f"more than {MAX_EVENTS} events")
        if selection.chosen is not None:
            groups = chosen_groups(groups, set(selection.chosen), include_others=question.include_others)
        return usage_of_events(meter, groups, selection.rows, question.zone)


def _page(rows: Sequence[UsageRow], after: Cursor | None, limit: int) -> list[UsageRow]:
    behind = [row for row in rows if after is None or row.place > after]
    return behind[:limit]


def _ranked(rows: Sequence[UsageRow], chosen: Sequence[GroupKey]) -> list[UsageRow]:
    ranks = {key: rank for rank, key in enumerate(chosen, start=1)}
    return [row if row.others else row._replace(rank=ranks[row.customer_id, row.dimensions_text]) for row in rows]


def _too_many(reason: str, what: str) -> InvalidInput:
    return InvalidInput.of(
        "start_time", reason, f"{what} would have to be read; ask for a shorter time or one customer"
    )
