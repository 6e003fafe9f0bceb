"""ReplayService as it runs, in processes of their own: from the call to the published window, and past a kill."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from libs.embedded.databases import ServiceDatabases
from libs.embedded.machine import free_port
from steelyard.ingest.v1 import meter_pb2, replay_service_pb2_grpc, usage_event_pb2, usage_service_pb2
from steelyard.ingest.v1 import replay_service_pb2 as pb
from tests.component.ingest.running import RunningIngest, Tenant, an_event, running_ingest, until
from tests.component.ingest.test_service import published_windows, refusal

CALLS = meter_pb2.Meter(meter_id="calls", event_type="llm.request", aggregation=meter_pb2.AGGREGATION_COUNT)
TOKENS = meter_pb2.Meter(
    meter_id="tokens", event_type="llm.request", aggregation=meter_pb2.AGGREGATION_SUM, expression="tokens"
)
READY, DONE, CANCELLED = pb.REPLAY_STATE_READY, pb.REPLAY_STATE_DONE, pb.REPLAY_STATE_CANCELLED


@pytest.fixture(scope="module")
async def ingest(server_root: Path) -> AsyncIterator[RunningIngest]:
    async with running_ingest(server_root / "replaying-ingest") as running:
        running.ports["maintain"] = free_port()
        await running.start("maintain")
        yield running


@pytest.fixture
async def owner(ingest: RunningIngest) -> AsyncIterator[asyncpg.Connection]:
    """A superuser, who may do what no login of the service may."""
    connection = await asyncpg.connect(ingest.postgres.url(ServiceDatabases(ingest.postgres).ensure("ingest").name))
    yield connection
    await connection.close()


def at_one_time(*events: usage_event_pb2.UsageEvent) -> list[usage_event_pb2.UsageEvent]:
    """All in one window."""
    for event in events:
        event.event_time.CopyFrom(events[0].event_time)
    return list(events)


class Asking:
    """The service with a tenant's key."""

    def __init__(self, tenant: Tenant) -> None:
        self._key = tenant.key
        self.stub = replay_service_pb2_grpc.ReplayServiceStub(tenant.ingest.channels["query"])

    async def start(self, mode: pb.ReplayMode.ValueType, *meters: str, request_id: str = "") -> str:
        scope = pb.ReplayScope(meter_ids=meters)
        request = pb.StartReplayRequest(request_id=request_id or str(uuid.uuid4()), mode=mode, scope=scope)
        return (await self.stub.StartReplay(request, metadata=self._key, timeout=20)).replay.replay_id

    async def confirm(self, replay_id: str) -> None:
        request = pb.ConfirmReplayRequest(request_id=str(uuid.uuid4()), replay_id=replay_id)
        await self.stub.ConfirmReplay(request, metadata=self._key, timeout=20)

    async def cancel(self, replay_id: str) -> pb.Replay:
        request = pb.CancelReplayRequest(request_id=str(uuid.uuid4()), replay_id=replay_id)
        return (await self.stub.CancelReplay(request, metadata=self._key, timeout=20)).replay

    async def get(self, replay_id: str) -> pb.Replay:
        request = pb.GetReplayRequest(replay_id=replay_id)
        return (await self.stub.GetReplay(request, metadata=self._key, timeout=20)).replay

    async def reaches(self, replay_id: str, state: pb.ReplayState.ValueType) -> pb.Replay:
        async def reached() -> bool:
            return (await self.get(replay_id)).state == state

        await until(reached)
        return await self.get(replay_id)

    async def differences(self, replay_id: str) -> list[pb.ReplayDifference]:
        """Page by page, of one each."""
        found: list[pb.ReplayDifference] = []
        request = pb.ListReplayDifferencesRequest(replay_id=replay_id, page_size=1)
        while True:
            page = await self.stub.ListReplayDifferences(request, metadata=self._key, timeout=20)
            found += page.differences
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return found


async def are_published(ingest: RunningIngest, tenant_id: str, **expected: tuple[str, int]) -> None:
    """Return when the one window of each meter is published with this value and this many events."""

    async def published() -> bool:
        windows = await published_windows(ingest, tenant_id)
        return {window.meter_id: (window.value, window.event_count) for window in windows} == expected

    await until(published)


class TestTheWayOfAReplay:
    async def test_of_a_damaged_window_ends_with_its_publication(
        self, ingest: RunningIngest, owner: asyncpg.Connection
    ) -> None:
        tenant = await ingest.tenant("damaged")
        asking = Asking(tenant)
        await tenant.create_meter(TOKENS)
        await tenant.create_meter(CALLS)
        await tenant.send(*at_one_time(an_event("1", tokens="10"), an_event("2", tokens="5")))
        await are_published(ingest, "damaged", tokens=("15", 2), calls=("2", 2))
        await owner.execute("UPDATE usage_windows SET value = 99, event_count = 7 WHERE tenant_id = 'damaged'")
        assert await tenant.failed_checks(settle_s=0) != []

        replay_id = await asking.start(pb.REPLAY_MODE_REBUILD)
        ready = await asking.reaches(replay_id, READY)

        assert (ready.progress.windows_built, ready.progress.windows_differing) == (2, 2)
        found = {item.meter_id: item for item in await asking.differences(replay_id)}
        assert {name: (item.live_value, item.built_value) for name, item in found.items()} == {
            "tokens": ("99", "15"),
            "calls": ("99", "2"),
        }
        await asking.confirm(replay_id)
        done = await asking.reaches(replay_id, DONE)
        assert (done.progress.windows_swapped, done.confirmed_by in tenant.key[0][1]) == (2, True)
        assert await tenant.failed_checks() == []
        await are_published(ingest, "damaged", tokens=("15", 2), calls=("2", 2))

    async def test_has_a_later_meter_count_what_came_before_it_though_the_worker_is_killed(
        self, ingest: RunningIngest
    ) -> None:
        tenant = await ingest.tenant("late-meter")
        asking = Asking(tenant)
        await tenant.create_meter(CALLS)
        events = at_one_time(an_event("1", tokens="10"), an_event("2", tokens="7"), an_event("3", tokens="many"))
        await tenant.send(*events)
        await tenant.create_meter(TOKENS)

        ingest.kill("maintain")
        replay_id = await asking.start(pb.REPLAY_MODE_BACKFILL, "tokens")
        await ingest.start("maintain")
        ready = await asking.reaches(replay_id, READY)
        ingest.kill("maintain")
        await asking.confirm(replay_id)
        await ingest.start("maintain")
        await asking.reaches(replay_id, DONE)

        assert (ready.progress.events_measured, ready.progress.events_unmeasured) == (2, 1)
        await are_published(ingest, "late-meter", tokens=("17", 2), calls=("3", 3))
        request = usage_service_pb2.GetEventRequest(source="gateway", event_id="2")
        stored = (await tenant.usage.GetEvent(request, metadata=tenant.key, timeout=20)).event
        assert dict(stored.measured_values) == {"calls": "1", "tokens": "7"}
        assert await tenant.failed_checks() == []

    async def test_that_is_cancelled_makes_room_for_another(
        self, ingest: RunningIngest, owner: asyncpg.Connection
    ) -> None:
        tenant, other = await ingest.tenant("undecided"), await ingest.tenant("curious")
        asking = Asking(tenant)
        await tenant.create_meter(CALLS)
        await tenant.send(an_event("1"))
        await owner.execute("UPDATE usage_windows SET value = 5 WHERE tenant_id = 'undecided'")
        request_id = str(uuid.uuid4())
        replay_id = await asking.start(pb.REPLAY_MODE_REBUILD, request_id=request_id)
        assert await asking.start(pb.REPLAY_MODE_REBUILD, request_id=request_id) == replay_id
        await asking.reaches(replay_id, READY)

        again = asking.start(pb.REPLAY_MODE_REBUILD)
        assert await refusal(again) == ("FAILED_PRECONDITION", "REPLAY_ACTIVE")
        assert await refusal(Asking(other).get(replay_id)) == ("NOT_FOUND", "REPLAY_NOT_FOUND")
        assert (await asking.cancel(replay_id)).state == CANCELLED
        assert await refusal(asking.cancel(replay_id)) == ("FAILED_PRECONDITION", "REPLAY_NOT_CANCELLABLE")
        assert await refusal(asking.confirm(replay_id)) == ("FAILED_PRECONDITION", "REPLAY_NOT_READY")
        assert await refusal(asking.start(pb.REPLAY_MODE_REBUILD, "nothing")) == ("NOT_FOUND", "METER_NOT_FOUND")
        second = await asking.start(pb.REPLAY_MODE_REBUILD)
        await asking.reaches(second, READY)
        listed = await asking.stub.ListReplays(pb.ListReplaysRequest(), metadata=tenant.key, timeout=20)
        assert [item.replay_id for item in listed.replays] == [second, replay_id]

    async def test_is_refused_with_everything_that_is_wrong(self, ingest: RunningIngest) -> None:
        asking = Asking(await ingest.tenant("mistaken"))
        for mode in (pb.REPLAY_MODE_UNSPECIFIED, pb.REPLAY_MODE_BACKFILL):
            assert await refusal(asking.start(mode)) == ("INVALID_ARGUMENT", "INVALID_INPUT")
        page = pb.ListReplayDifferencesRequest(replay_id="x", page_token="not one")
        assert (await refusal(asking.stub.ListReplayDifferences(page, metadata=asking._key)))[0] == "INVALID_ARGUMENT"
