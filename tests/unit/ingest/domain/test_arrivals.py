"""Numbers of sources put together to runs, in any order and repetition."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from libs.errors import Violation
from services.ingest.domain.arrivals import MAX_RUNS, numbers_arrived, runs_of, sources_heard
from services.ingest.domain.usage_batch import MAX_SEQUENCE, RejectedEvent, UsageBatch, UsageColumns

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
NUMBERS = st.lists(st.integers(1, 40), max_size=60)


def a_batch(
    *events: tuple[str, str, int],
    rejected: tuple[RejectedEvent, ...] = (),
    at: datetime = NOON,
    tenant: str = "acme",
) -> UsageBatch:
    """Of (source, epoch, number)."""
    count = len(events)
    columns = UsageColumns(
        event_ids=[str(index) for index in range(count)],
        sources=[event[0] for event in events],
        event_types=["call"] * count,
        customer_ids=["cust-01"] * count,
        times_ns=[1] * count,
        properties=[{}] * count,
        sequences=[event[2] for event in events],
        sequence_epochs=[event[1] for event in events],
    )
    return UsageBatch(tenant, "epoch", 1, at, at + timedelta(days=1), columns, rejected, count, 0, (), "")


@given(NUMBERS)
def test_runs_are_the_numbers_and_neither_overlap_nor_touch(numbers: list[int]) -> None:
    runs = runs_of(numbers)

    assert [number for first, last in runs for number in range(first, last + 1)] == sorted(set(numbers))
    assert all(before[1] + 1 < after[0] for before, after in pairwise(runs))


@given(st.data())
def test_any_order_repetition_and_cut_into_batches_gives_the_same(data: st.DataObject) -> None:
    numbers = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=60))
    shuffled = data.draw(st.permutations(numbers + data.draw(st.lists(st.sampled_from(numbers)))))
    cut = data.draw(st.integers(0, len(shuffled)))
    parts = [part for part in (shuffled[:cut], shuffled[cut:]) if part]

    together = numbers_arrived([a_batch(*(("gateway", "life", number) for number in numbers))])
    apart = numbers_arrived([a_batch(*(("gateway", "life", number) for number in part)) for part in parts])

    assert apart == together


class TestNumbersArrived:
    def test_are_told_apart_by_tenant_source_and_epoch(self) -> None:
        batches = [
            a_batch(("b", "", 3), ("a", "life", 1), ("a", "other", 1), ("a", "life", 0)),
            a_batch(("a", "life", 2), tenant="other"),
        ]

        found = numbers_arrived(batches)

        assert [(item.tenant_id, item.source, item.sequence_epoch, item.text()) for item in found] == [
            ("acme", "a", "life", "{[1,1]}"),
            ("acme", "a", "other", "{[1,1]}"),
            ("acme", "b", "", "{[3,3]}"),
            ("other", "a", "life", "{[2,2]}"),
        ]

    def test_refused_events_count_unless_their_number_is_the_problem(self) -> None:
        problem = Violation("event_time", "REQUIRED", "must be set")
        refused = [
            RejectedEvent("1", source, "call", "cust-01", 0, problem, number, "life")
            for source, number in [("gateway", 5), ("gateway", MAX_SEQUENCE + 1), ("gateway", -1), ("", 7)]
        ]

        (found,) = numbers_arrived([a_batch(("gateway", "life", 4), rejected=tuple(refused))])

        assert found.runs == [(4, 5)]

    def test_too_many_runs_become_one(self) -> None:
        at_limit = a_batch(*(("gateway", "", 2 * number) for number in range(1, MAX_RUNS + 1)))
        beyond = a_batch(*(("gateway", "", 2 * number) for number in range(1, MAX_RUNS + 2)))

        assert [(len(item.runs), item.is_ragged) for item in numbers_arrived([at_limit])] == [(MAX_RUNS, False)]
        assert [(item.runs, item.is_ragged) for item in numbers_arrived([beyond])] == [([(2, 2_002)], True)]

    def test_without_numbers_there_are_none(self) -> None:
        assert numbers_arrived([a_batch(("gateway", "", 0))]) == []


def test_a_source_was_heard_when_its_last_batch_was_accepted() -> None:
    later = NOON + timedelta(minutes=1)

    found = sources_heard([a_batch(("b", "", 0), at=later), a_batch(("a", "", 0), ("b", "", 0))])

    day = timedelta(days=1)
    assert [(item.source, item.heard_at, item.received_at) for item in found] == [
        ("a", NOON + day, NOON),
        ("b", later + day, later),
    ]
