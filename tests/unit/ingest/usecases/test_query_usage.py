"""How a question about usage is split into whole windows and edges."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from libs.errors import InvalidInput
from libs.periods import BucketSize, Period, window_start
from services.ingest.domain.meter import Aggregation, Meter, PropertyFilter
from services.ingest.usecases import usage_question
from services.ingest.usecases.usage_question import UsageQuestion, select_usage

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

        assert selection.cover.windows == (Period(*windows) if windows else None)
        assert list(selection.cover.edges) == [Period(*edge) for edge in edges]
        parts = [*selection.cover.edges, *([selection.cover.windows] if selection.cover.windows else [])]
        assert sum((part.end - part.start for part in parts), timedelta()) == end - start

    def test_minutes_are_of_the_log(self) -> None:
        selection = select_usage(replace(QUESTION, size=BucketSize.MINUTE), METER)

        assert (selection.cover.windows, list(selection.cover.edges)) == (None, [Period(at(0), at(60))])
        assert len(selection.rows) == 60

    @pytest.mark.parametrize(
        ("start", "end"),
        [(at(0), at(60)), (at(7), at(60)), (at(7), at(9)), (at(7), at(15)), (at(7), at(29)), (at(0), at(2))],
    )
    def test_all_before_is_covered_once_too_and_split_at_the_start(self, start: datetime, end: datetime) -> None:
        covered = select_usage(replace(QUESTION, start=start, end=end), replace(METER, carry_over=True)).cover

        assert covered.windows is not None
        assert covered.windows.start == datetime(1970, 1, 1, tzinfo=UTC)
        step = timedelta(minutes=1)
        for minute in range(-40, 61):
            instant = at(minute)
            in_window = covered.windows.contains(instant) and window_start(instant) != covered.cut
            times = in_window + sum(edge.contains(instant) for edge in covered.edges)
            assert times == (instant < end), instant
            if in_window and window_start(instant) < start < window_start(instant) + 15 * step:
                raise AssertionError(f"the window of {instant} is on both sides of the start")

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
            (replace(QUESTION, end=at(50_001), size=BucketSize.MINUTE), "window_size"),
            (replace(QUESTION, size=BucketSize.BILLING_PERIOD), "anchor_day"),
            (replace(QUESTION, size=BucketSize.BILLING_PERIOD, anchor_day=32), "anchor_day"),
            (replace(QUESTION, size=BucketSize.MONTH, anchor_day=1), "anchor_day"),
            (replace(QUESTION, top_groups=-1), "top_groups"),
            (replace(QUESTION, top_groups=1_001), "top_groups"),
            (replace(QUESTION, include_others=True), "include_others"),
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

        monkeypatch.setattr(usage_question, "buckets", cut)
        first, last = datetime(1970, 1, 1, tzinfo=UTC), datetime(2262, 1, 1, tzinfo=UTC)

        with pytest.raises(InvalidInput):
            select_usage(replace(QUESTION, start=first, end=last, size=BucketSize.QUARTER_HOUR), METER)
