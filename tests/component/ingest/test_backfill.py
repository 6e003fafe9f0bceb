"""Backfills: meters count what was recorded before them, as if they had always been there."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import timedelta

import pytest

from libs.database import Database, raw
from libs.periods import Period
from services.ingest.domain.meter import Meter
from services.ingest.domain.replays import ReplayMode, ReplayState
from services.ingest.store import replay_comparison, replay_swap
from services.ingest.store.event_queries import PostgresEventStore
from services.ingest.store.meter_changes import HOLD_COUNTING
from services.ingest.store.usage_quantities import PostgresQuantityStore
from services.ingest.store.usage_queries import PostgresUsageStore
from services.ingest.usecases.query_events import EventSelection
from services.ingest.usecases.query_usage import QueryUsage
from services.ingest.usecases.record_usage import RecordUsage
from services.ingest.usecases.usage_quantities import GetUsageQuantities, QuantityScope
from services.ingest.usecases.usage_question import UsageQuestion
from tests.component.ingest.builders import NOON, Event, a_batch, a_meter, add_meters, fetch
from tests.component.ingest.metering import METERS, MORNING, jobs
from tests.component.ingest.replaying import Replaying, mutation

BACKFILL = ReplayMode.BACKFILL
HOUR = timedelta(hours=1)
MIDNIGHT = MORNING.replace(hour=0, minute=0, second=0, microsecond=0)
TIMES = (
    Period(MIDNIGHT, MIDNIGHT + 24 * HOUR),
    Period(MORNING, MORNING + timedelta(hours=7, microseconds=3)),
)


@pytest.fixture
def replaying(worker: Database, api: Database) -> Replaying:
    return Replaying(worker, api)


@pytest.fixture
def in_small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that there are many of each."""
    monkeypatch.setattr(replay_comparison, "PAGE_EVENTS", 50)
    monkeypatch.setattr(replay_comparison, "SLICE_EVENTS", 60)
    monkeypatch.setattr(replay_swap, "PORTION_WINDOWS", 250)


async def record_in(record: RecordUsage, tenant: str, batches: Sequence[Sequence[Event]], first: int) -> None:
    """Batches of 60 events."""
    for number, events in enumerate(batches, start=first):
        seq = number + (1_000 if tenant == "beta" else 0)
        await record([a_batch(number, *events, tenant=tenant, seq=seq, accepted_total=60 * number)])


async def answers(api: Database, tenant: str, meters: Sequence[Meter]) -> dict[str, object]:
    """Whatever tells quantities, with edges inside windows and without, by customer and dimension."""
    ask, quantities = QueryUsage(usage=PostgresUsageStore(api)), GetUsageQuantities(PostgresQuantityStore(api))
    found: dict[str, object] = {}
    for meter in meters:
        for place, time in enumerate(TIMES):
            question = UsageQuestion(
                tenant, meter.meter_id, "", time.start, time.end, None, "", tuple(meter.group_by), True, ()
            )
            _, rows = await ask(question, None, 1_000)
            found[f"rows of {meter.meter_id} in {place}"] = [
                (row.customer_id, row.dimensions, row.value, row.event_count) for row in rows
            ]
            scopes = [QuantityScope(f"cust-{number}", meter.meter_id, time, "Asia/Tokyo") for number in range(2)]
            found[f"quantities of {meter.meter_id} in {place}"] = [
                (quantity.value, quantity.event_count) for quantity in await quantities(tenant, scopes)
            ]
    return found


async def log_of(api: Database, tenant: str) -> dict[str, dict[str, str]]:
    events = await PostgresEventStore(api).events(tenant, EventSelection(), None, 1_000)
    return {event.event_id: dict(event.measured) for event in events}


async def windows_of(api: Database, tenant: str) -> object:
    # The latest position is that of the event in its own tenant's log.
    return await fetch(
        api,
        tenant,
        "SELECT encode(window_key, 'hex'), meter_id, customer_id, window_start, dimensions::text, value, event_count,"
        " latest_ns FROM usage_windows WHERE event_count > 0 ORDER BY 1",
    )


class TestABackfill:
    @pytest.mark.parametrize("seed", [1, 2, 3])
    @pytest.mark.usefixtures("in_small_portions")
    async def test_is_the_same_as_having_had_the_meter_from_the_start(
        self, seed: int, record: RecordUsage, api: Database, replaying: Replaying
    ) -> None:
        dice = random.Random(seed)
        meters = [
            *METERS,
            a_meter("big-by-region", expression="size", group_by=("region", "user"), event_type="job"),
            a_meter("eu", expression="", filters=[("region", "eu")], event_type="job"),
        ]
        late = dice.sample(meters, 6)
        batches = [jobs(seed * 10 + number, 60) for number in range(5)]
        cut = dice.randrange(1, 5)
        await add_meters(api, *meters, tenant="beta")
        await record_in(record, "beta", batches, 1)
        await add_meters(api, *(meter for meter in meters if meter not in late))
        await record_in(record, "acme", batches[:cut], 1)
        await add_meters(api, *late)

        replay_id = await replaying.start(BACKFILL, meters=tuple(meter.meter_id for meter in late))
        for _ in range(dice.randrange(4)):
            await replaying.step()
        await record_in(record, "acme", batches[cut:], cut + 1)
        ready = await replaying.built(replay_id)
        done = await replaying.confirmed(replay_id)

        assert (ready.state, done.state) == (ReplayState.READY, ReplayState.DONE)
        assert done.progress.events_unmeasured == 0
        assert await windows_of(api, "acme") == await windows_of(api, "beta")
        assert await log_of(api, "acme") == await log_of(api, "beta")
        assert await answers(api, "acme", meters) == await answers(api, "beta", meters)
        assert await replaying.reconciles()
        rebuilt = await replaying.built(await replaying.start(dry_run=True))
        assert rebuilt.progress.windows_differing == 0
        assert await fetch(api, "acme", "SELECT count(*) FROM replay_measurements") == [(0,)]

    async def test_counts_nothing_before_it_is_confirmed_and_nothing_when_cancelled(
        self, record: RecordUsage, api: Database, replaying: Replaying
    ) -> None:
        await record([a_batch(1, *jobs(1, 100))])
        await add_meters(api, *METERS)
        before = await answers(api, "acme", METERS), await log_of(api, "acme"), await windows_of(api, "acme")
        replay_id = await replaying.start(BACKFILL, meters=tuple(meter.meter_id for meter in METERS))
        ready = await replaying.built(replay_id)

        assert ready.progress.events_measured == 100 * len(METERS)
        differences = await replaying.differences(replay_id)
        assert sum(item.built_events for item in differences) == 100 * len(METERS)
        assert {item.live_events for item in differences} == {0}
        after = await answers(api, "acme", METERS), await log_of(api, "acme"), await windows_of(api, "acme")
        assert after == before
        await replaying.change.cancel(mutation(), replay_id)
        await replaying.rest()
        after = await answers(api, "acme", METERS), await log_of(api, "acme"), await windows_of(api, "acme")
        assert after == before
        assert await fetch(api, "acme", "SELECT count(*) FROM replay_measurements") == [(0,)]

    async def test_again_measures_nothing(self, record: RecordUsage, api: Database, replaying: Replaying) -> None:
        await record([a_batch(1, *jobs(1, 50))])
        await add_meters(api, *METERS)
        meters = tuple(meter.meter_id for meter in METERS)
        await replaying.built(first := await replaying.start(BACKFILL, meters=meters))
        await replaying.confirmed(first)
        windows = await windows_of(api, "acme")

        again = await replaying.built(await replaying.start(BACKFILL, meters=meters))

        assert (again.state, again.progress.events_measured) == (ReplayState.DONE, 0)
        assert await windows_of(api, "acme") == windows

    async def test_of_some_customers_and_hours_leaves_the_rest_for_later(
        self, record: RecordUsage, api: Database, replaying: Replaying
    ) -> None:
        await record([a_batch(1, *jobs(1, 100))])
        await add_meters(api, *METERS)
        meters, noon = tuple(meter.meter_id for meter in METERS), MIDNIGHT + 12 * HOUR
        for customers, start, end in (
            (("cust-0",), None, noon),
            (("cust-0",), noon, None),
            ((), None, None),
        ):
            replay_id = await replaying.start(BACKFILL, meters=meters, customers=customers, start=start, end=end)
            ready = await replaying.built(replay_id)
            assert 0 < ready.progress.events_measured < 100 * len(METERS)
            await replaying.confirmed(replay_id)
            assert await replaying.reconciles()

        await add_meters(api, *METERS, tenant="beta")
        await record([a_batch(1, *jobs(1, 100), tenant="beta", seq=2)])
        assert await windows_of(api, "acme") == await windows_of(api, "beta")

    async def test_leaves_out_what_the_meter_cannot_measure(
        self, record: RecordUsage, api: Database, replaying: Replaying
    ) -> None:
        good, bad = Event("1", {"tokens": "5"}), Event("2", {"tokens": "many"})
        await record([a_batch(1, good, bad, Event("3"), Event("4", event_type="other"))])
        await add_meters(api, a_meter("tokens"), a_meter("calls", expression=""))
        ready = await replaying.built(await replaying.start(BACKFILL, meters=("tokens", "calls")))
        await replaying.confirmed(ready.replay_id)

        assert (ready.progress.events_measured, ready.progress.events_unmeasured) == (1 + 3, 2)
        assert await log_of(api, "acme") == {
            "1": {"tokens": "5", "calls": "1"},
            "2": {"calls": "1"},
            "3": {"calls": "1"},
            "4": {},
        }

    async def test_waits_for_recorders_that_may_not_know_the_meter(
        self, record: RecordUsage, api: Database, worker: Database, replaying: Replaying
    ) -> None:
        await record([a_batch(1, *jobs(1, 20))])
        await add_meters(api, METERS[0])
        replay_id = await replaying.start(BACKFILL, meters=(METERS[0].meter_id,))
        async with worker.transaction("acme") as connection:
            await (await raw(connection)).execute(HOLD_COUNTING, ["acme"])
            building = asyncio.create_task(replaying.built(replay_id))
            done, _ = await asyncio.wait({building}, timeout=0.5)
            assert not done
        assert (await building).progress.events_measured == 20

    async def test_of_an_archived_meter_ends_where_the_meter_does(
        self, record: RecordUsage, api: Database, replaying: Replaying
    ) -> None:
        await record([a_batch(1, Event("1"), received_at=NOON), a_batch(2, Event("2"), received_at=NOON + 2 * HOUR)])
        await add_meters(api, a_meter("calls", expression=""))
        async with api.transaction("acme") as connection:
            await (await raw(connection)).execute(
                "INSERT INTO meter_versions VALUES ('acme', 'calls', 2, '', '', $1, 'ann', $1)", NOON + HOUR
            )
        ready = await replaying.built(await replaying.start(BACKFILL, meters=("calls",)))

        assert ready.progress.events_measured == 1
