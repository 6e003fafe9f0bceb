"""However events are ordered, repeated, split and batched: the log and the windows are those of sending each one once,
and the counts of fates add up to what was sent."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from libs.database import Database
from services.ingest.domain.meter import Aggregation
from services.ingest.domain.recording import Fate
from services.ingest.store.reconciliation import PostgresReconciliationStore
from services.ingest.usecases.ports import QueuedBatch
from services.ingest.usecases.reconcile import Reconcile
from services.ingest.usecases.record_usage import RecordUsage
from tests.component.ingest.builders import NOON, Event, a_batch, a_meter, a_refusal, add_meters, fetch

METERS = (
    a_meter(group_by=["model"]),
    a_meter("calls", expression=""),
    replace(a_meter("largest"), aggregation=Aggregation.MAX),
)
EVENTS = (
    "SELECT source, event_id, event_type, customer_id, event_time_ns, properties, measured FROM events ORDER BY 1, 2"
)
WINDOWS = (
    "SELECT meter_id, customer_id, window_start, dimensions::text, value, event_count FROM usage_windows"
    " ORDER BY 1, 2, 3, 4"
)
COUNTS = (
    "SELECT sum(accepted_total)::int, sum(rejected_total)::int, sum(recorded)::int, sum(duplicate)::int,"
    " sum(conflict)::int, sum(rejected)::int FROM acceptor_counters"
)
GOOD = [
    Event(
        str(number),
        {"tokens": f"{number}.5", "model": ("large", "small")[number % 2]},
        f"cust-{number % 5}",
        NOON + timedelta(minutes=7 * number),
        source=("gateway", "edge")[number % 3 == 0],
    )
    for number in range(60)
]
CONTRADICTING = [event._replace(properties={**event.properties, "tokens": "1000"}) for event in GOOD[::4]]
UNMEASURABLE = [Event(f"bad-{number}", {"tokens": "many"}) for number in range(7)]


@dataclass(frozen=True, slots=True)
class Rearranged:
    """A way to send the events: batches in the order of the queue, and the fates that they have to meet."""

    batches: Sequence[QueuedBatch]
    fates: dict[Fate, int]
    refusals: int


def _split(chance: random.Random, items: Sequence[Event]) -> Iterator[Sequence[Event]]:
    start = 0
    while start < len(items):
        end = start + chance.randint(1, 25)
        yield items[start:end]
        start = end


def rearranged(chance: random.Random) -> Rearranged:
    """Contradictions come after all first contents, because who is first among different contents wins."""
    repeats = chance.choices(GOOD, k=chance.randint(0, 80))
    early, late = repeats[::2], repeats[1::2]
    first = [*GOOD, *early, *UNMEASURABLE]
    contradictions = chance.choices(CONTRADICTING, k=chance.randint(1, 30))
    second = [*late, *contradictions, *chance.choices(UNMEASURABLE, k=3)]
    chance.shuffle(first)
    chance.shuffle(second)
    refusals = [[a_refusal("refused")] * chance.randint(0, 2) for _ in range(len(first) + len(second))]
    parts = [*_split(chance, first), *_split(chance, second)]
    batches = [
        a_batch(1, *part, epoch=f"epoch-{place}", rejected=refusals[place], seq=place + 1)
        for place, part in enumerate(parts)
    ]
    fates = {
        Fate.RECORDED: len(GOOD),
        Fate.DUPLICATE: len(repeats),
        Fate.CONFLICT: len(contradictions),
        Fate.REJECTED: len(UNMEASURABLE) + 3,
    }
    return Rearranged(batches, fates, sum(len(refusals[place]) for place in range(len(parts))))


async def _deliver(record: RecordUsage, chance: random.Random, batches: Sequence[QueuedBatch]) -> None:
    """In chunks of any size, some of which the queue delivers again."""
    start = 0
    while start < len(batches):
        end = start + chance.randint(1, 4)
        await record(batches[start:end])
        if chance.random() < 0.5:
            await record(batches[:end][-chance.randint(1, 6) :])
        start = end


class TestRearrangedSending:
    @pytest.mark.parametrize("seed", range(12))
    async def test_gives_what_sending_once_gives_and_fates_add_up(
        self, record: RecordUsage, api: Database, seed: int
    ) -> None:
        chance = random.Random(seed)
        for tenant in ("once", "acme"):
            await add_meters(api, *METERS, tenant=tenant)
        await record([a_batch(1, *GOOD, tenant="once", epoch="epoch-once", seq=1000)])
        sending = rearranged(chance)

        await _deliver(record, chance, sending.batches)

        for query in (EVENTS, WINDOWS):
            expected = await fetch(api, "once", query)
            assert len(expected) >= len(GOOD)
            assert await fetch(api, "acme", query) == expected
        sent = sum(len(item.batch.events.event_ids) for item in sending.batches)
        assert sent == sum(sending.fates.values())
        assert await fetch(api, "acme", COUNTS) == [(sent, sending.refusals, *(sending.fates[fate] for fate in Fate))]
        checks = await Reconcile(PostgresReconciliationStore(api))("acme", None)
        assert [check.name for check in checks if not check.holds] == []
