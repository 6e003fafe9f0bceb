"""How a question about usage is split into whole windows and edges."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from libs.errors import InvalidInput
from libs.periods import BucketSize, Period
from services.ingest.domain.meter import Aggregation, Meter, PropertyFilter
from services.ingest.usecases import query_usage
from services.ingest.usecases.query_usage import UsageQuestion, select_usage

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
METER = Meter("tokens", "", "llm", Aggregation.SUM, "tokens", group_by=("model", "region"))
QUESTION = UsageQuestion("acme", "tokens", "", NOON, NOON + timedelta(hours=1), None, "", (), False, ())


def at(minutes: int, seconds: int = 0) -> datetime:
    return NOON + timedelta(minutes=minutes, seconds=seconds)


class TestSelectUsage:
    @pytest.mark.parametrize(
        ("start", "end", "windows", "edges"),
        [
            (at(0), at(60), (at(0), at(60)), []),
            (at(1), at(60), (at(15), at(60)), [(at(1), at(15))]),
            (at(0), at(61), (at(0), at(60)), [(at(60), at(61))]),
            (at(14, 59), at(45, 1), (at(15), at(45)), [(at(14, 59), at(15)), (at(45), at(45, 1))]),
            (at(1), at(2), None, [(at(1), at(2))]),
            (at(0), at(2), None, [(at(0), at(2))]),
            (at(14), at(15), None, [(at(14), at(15))]),
            (at(14), at(16), None, [(at(14), at(15)), (at(15), at(16))]),
            (at(0), at(15), (at(0), at(15)), []),
        ],
    )
    def test_whole_windows_and_edges_cover_the_time_exactly(
        self,
        start: datetime,
        end: datetime,
        windows: tuple[datetime, datetime] | None,
        edges: list[tuple[datetime, datetime]],
    ) -> None:
        selection = select_usage(replace(QUESTION, start=start, end=end), METER)

        assert selection.windows == (Period(*windows) if windows else None)
        assert list(selection.edges) == [Period(*edge) for edge in edges]
        parts = [*selection.edges, *([selection.windows] if selection.windows else [])]
        assert sum((part.end - part.start for part in parts), timedelta()) == end - start

    def test_dimensions_that_are_not_asked_for_are_summed_over(self) -> None:
        assert select_usage(replace(QUESTION, group_by=("region",)), METER).dropped == ("model",)

    def test_rows_are_local(self) -> None:
        day = replace(QUESTION, start=at(0), end=at(60 * 24), size=BucketSize.DAY, time_zone="Asia/Kolkata")

        assert [row.start for row in select_usage(day, METER).rows] == [
            at(0),
            datetime(2026, 3, 10, 18, 30, tzinfo=UTC),
        ]

    @pytest.mark.parametrize(
        ("question", "field"),
        [
            (replace(QUESTION, end=NOON), "end_time"),
            (replace(QUESTION, group_by=("colour",)), "group_by[0]"),
            (replace(QUESTION, filters=(PropertyFilter("colour", "red"),)), "filters[0].property"),
            (replace(QUESTION, filters=(PropertyFilter("model", "\x00"),)), "filters[0].value"),
            (replace(QUESTION, time_zone="Mars/Olympus"), "time_zone"),
            (replace(QUESTION, start=datetime(1, 1, 1, tzinfo=UTC)), "start_time"),
            (replace(QUESTION, end=at(20_000 * 60), size=BucketSize.QUARTER_HOUR), "window_size"),
        ],
    )
    def test_impossible_questions(self, question: UsageQuestion, field: str) -> None:
        with pytest.raises(InvalidInput) as refused:
            select_usage(question, METER)

        assert [violation.field for violation in refused.value.violations] == [field]

    def test_centuries_are_refused_before_they_are_cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Ten million cuts would keep the process from everything else for half a minute."""

        def cut(*_: object) -> tuple[Period, ...]:
            raise AssertionError("it was cut")

        monkeypatch.setattr(query_usage, "buckets", cut)
        first, last = datetime(1970, 1, 1, tzinfo=UTC), datetime(2262, 1, 1, tzinfo=UTC)

        with pytest.raises(InvalidInput):
            select_usage(replace(QUESTION, start=first, end=last, size=BucketSize.QUARTER_HOUR), METER)
