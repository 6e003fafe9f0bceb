"""Counts of fates by tenant, hour of receipt and source: what was sent is counted once for each time it was sent."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from libs.database import Database
from libs.errors import InvalidInput, Violation
from libs.periods import Period
from services.ingest.domain.fate_counts import MAX_SOURCES, FateCounts
from services.ingest.domain.usage_batch import RejectedEvent
from services.ingest.store.fate_counts import PostgresFateCountStore
from services.ingest.store.recording_transactions import PostgresRecordingTransactions
from services.ingest.usecases.fate_counts import CountedFates, FateQuestion, Span
from services.ingest.usecases.ports import QueuedBatch
from services.ingest.usecases.record_usage import RecordUsage
from tests.component.ingest.builders import NOON, Event, a_batch, a_meter, add_meters, fetch

HOUR = timedelta(hours=1)
ALL_TIME = Period(NOON - 48 * HOUR, NOON + 48 * HOUR)
RESULTS = "SELECT sum(recorded), sum(duplicate), sum(conflict), sum(rejected) FROM batch_results"


async def counts(
    api: Database,
    *,
    span: Span = Span.HOUR,
    period: Period = ALL_TIME,
    sources: Sequence[str] = (),
    tenant: str = "acme",
) -> list[CountedFates]:
    return await PostgresFateCountStore(api).counts(tenant, FateQuestion(period, sources, span), None, 5_000)


async def total(api: Database, tenant: str = "acme") -> FateCounts:
    return await PostgresFateCountStore(api).total(tenant, FateQuestion(ALL_TIME, (), Span.ALL))


def a_refusal(source: str) -> RejectedEvent:
    return RejectedEvent("x", source, "llm.request", "cust-01", 0, Violation("event_time", "REQUIRED", "must be set"))


class TestCounting:
    async def test_every_fate_by_source_and_hour(self, record: RecordUsage, api: Database) -> None:
        first = a_batch(
            1,
            Event("1"),
            Event("2"),
            Event("1", source="other"),
            rejected=[a_refusal("gateway"), a_refusal("")],
            received_at=NOON + timedelta(minutes=59, seconds=59, microseconds=999_999),
        )
        again = a_batch(
            2, Event("1"), Event("2", {"changed": "1"}), Event("3", source="other"), received_at=NOON + HOUR
        )
        await record([first])
        await add_meters(api, a_meter())
        await record([again, a_batch(3, Event("4", source="late"), received_at=NOON + HOUR)])

        assert await counts(api) == [
            CountedFates(NOON, "", FateCounts(rejected_at_door=1)),
            CountedFates(NOON, "gateway", FateCounts(recorded=2, rejected_at_door=1)),
            CountedFates(NOON, "other", FateCounts(recorded=1)),
            # `tokens` is missing for the meter that there is now; a duplicate stays a duplicate.
            CountedFates(NOON + HOUR, "gateway", FateCounts(duplicate=1, rejected=1)),
            CountedFates(NOON + HOUR, "late", FateCounts(rejected=1)),
            CountedFates(NOON + HOUR, "other", FateCounts(rejected=1)),
        ]
        assert await total(api) == FateCounts(recorded=3, duplicate=1, rejected=3, rejected_at_door=2)

    async def test_a_conflict_counts_for_the_source_that_sent_it(self, record: RecordUsage, api: Database) -> None:
        await record([a_batch(1, Event("1"), Event("1", {"other": "content"}), Event("1", source="b"))])
        assert [(item.source, item.counts) for item in await counts(api)] == [
            ("b", FateCounts(recorded=1)),
            ("gateway", FateCounts(recorded=1, conflict=1)),
        ]

    async def test_a_batch_that_comes_again_counts_once(self, record: RecordUsage, api: Database) -> None:
        batch = a_batch(1, Event("1"), Event("2"), rejected=[a_refusal("gateway")])
        for _ in range(3):
            await record([batch, batch])
        assert await total(api) == FateCounts(recorded=2, rejected_at_door=1)

    async def test_of_another_tenant_nothing_is_seen(self, record: RecordUsage, api: Database) -> None:
        await record([a_batch(1, Event("1")), a_batch(1, Event("1"), tenant="rival", seq=2)])
        assert await total(api, "rival") == await total(api) == FateCounts(recorded=1)
        assert await total(api, "nobody") == FateCounts()

    @pytest.mark.parametrize("seed", range(4))
    async def test_repeated_split_and_shuffled_by_several_recorders_they_are_those_of_the_batches(
        self, seed: int, worker: Database, api: Database
    ) -> None:
        dice = random.Random(seed)
        sent = [
            Event(f"{dice.randrange(60)}", {"n": str(dice.randrange(2))}, source=dice.choice(["a", "b", "c"]))
            for _ in range(400)
        ]
        batches: list[QueuedBatch] = []
        while sent:
            size = dice.randrange(1, 30)
            at = NOON + dice.randrange(3) * HOUR
            batches.append(a_batch(len(batches) + 1, *sent[:size], received_at=at, rejected=[a_refusal("a")]))
            sent = sent[size:]
        by_source = Counter((b.batch.received_at, source) for b in batches for source in b.batch.events.sources)
        chunks = [dice.sample(batches, dice.randrange(1, 8)) for _ in range(10)] + [batches]

        async def recorder(mine: Sequence[Sequence[QueuedBatch]]) -> None:
            record = RecordUsage(PostgresRecordingTransactions(worker), lambda: NOON)
            for chunk in mine:
                await record(chunk)

        await asyncio.gather(recorder(chunks[::2]), recorder(chunks[1::2]))
        await recorder([batches])

        found = await total(api)
        assert [(found.recorded, found.duplicate, found.conflict, found.rejected)] == await fetch(api, "acme", RESULTS)
        assert found.rejected_at_door == len(batches)
        accepted = {
            (item.start, item.source): item.counts.recorded + item.counts.duplicate + item.counts.conflict
            for item in await counts(api)
        }
        assert {key: count for key, count in accepted.items() if count} == by_source


class TestBounds:
    async def test_further_sources_of_an_hour_count_together(self, record: RecordUsage, api: Database) -> None:
        for number in range(3):
            events = [Event(f"{n}", source=f"s{number}-{n:03}") for n in range(500)]
            await record([a_batch(number + 1, *events)])
        await record([a_batch(9, Event("again", source="s0-000"), Event("new", source="zz"))])
        await record([a_batch(10, Event("later", source="zz"), received_at=NOON + HOUR)])

        found = {(item.start, item.source): item.counts.recorded for item in await counts(api)}

        assert len(found) == MAX_SOURCES + 2
        assert found[NOON, ""] == 501
        assert found[NOON, "s0-000"] == 2
        assert found[NOON + HOUR, "zz"] == 1
        assert (await total(api)).recorded == 1_503


class TestQuestions:
    async def test_spans_sources_and_edges(self, record: RecordUsage, api: Database) -> None:
        times = [NOON - 13 * HOUR, NOON - 12 * HOUR, NOON, NOON + HOUR]
        await record(
            [
                a_batch(n, Event(f"{n}", source=source), Event(f"{n}", source="both"), received_at=at)
                for n, (at, source) in enumerate(zip(times, "aabb", strict=True), 1)
            ]
        )
        midnight = NOON - 12 * HOUR

        def shown(found: Sequence[CountedFates]) -> list[tuple[datetime, str, int]]:
            return [(item.start, item.source, item.counts.recorded) for item in found]

        assert shown(await counts(api, span=Span.DAY)) == [
            (midnight - 24 * HOUR, "a", 1),
            (midnight - 24 * HOUR, "both", 1),
            (midnight, "a", 1),
            (midnight, "b", 2),
            (midnight, "both", 3),
        ]
        assert shown(await counts(api, span=Span.ALL, sources=["both", "b"])) == [
            (ALL_TIME.start, "b", 2),
            (ALL_TIME.start, "both", 4),
        ]
        assert shown(await counts(api, period=Period(NOON, NOON + HOUR))) == [(NOON, "b", 1), (NOON, "both", 1)]

    async def test_pages_are_parts_of_the_whole(self, record: RecordUsage, api: Database) -> None:
        events = [Event("1", source=f"s{n}") for n in range(7)]
        await record([a_batch(1, *events), a_batch(2, *events, received_at=NOON + HOUR)])
        store, question = PostgresFateCountStore(api), FateQuestion(ALL_TIME, (), Span.HOUR)
        found: list[CountedFates] = []
        while page := await store.counts("acme", question, (found[-1].start, found[-1].source) if found else None, 3):
            found += page
        assert found == await counts(api)
        assert len(found) == 14

    @pytest.mark.parametrize(
        ("start", "sources", "field"),
        [(NOON + timedelta(minutes=1), (), "start_time"), (NOON, ["s"] * 101, "sources")],
        ids=["half an hour", "too many"],
    )
    def test_that_cannot_be_asked_are_refused(self, start: datetime, sources: Sequence[str], field: str) -> None:
        with pytest.raises(InvalidInput) as raised:
            FateQuestion(Period(start, NOON + 2 * HOUR), sources, Span.HOUR)
        assert [violation.field for violation in raised.value.violations] == [field]
