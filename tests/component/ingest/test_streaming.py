"""StreamEvents of a running acceptor, over the real queue, by the SDK and by bare calls."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from libs.errors import ServiceError
from libs.messaging import DirectoryPublisher, JetStreamPublisher, directory_subject
from libs.rpc import hash_api_key, parse_api_key, typed_errors
from steelyard import Client, DeliveryFailed, Endpoints, NotAllowed, Options, UsageEvent, Verdict
from steelyard.billing.v1 import directory_pb2
from steelyard.ingest.v1 import ingest_service_pb2 as pb
from steelyard.ingest.v1 import (
    ingest_service_pb2_grpc,
    meter_pb2,
    usage_event_pb2,
    usage_window_pb2,
    usage_window_service_pb2,
)
from tests.component.ingest.running import INTERNAL_KEY, RunningIngest, Tenant, an_event, running_ingest, until

OPTIONS = Options(stream=True, batch_events=20, linger_s=0.01, backoff_s=0.05)
TOKENS = meter_pb2.Meter(
    meter_id="tokens", event_type="llm.request", aggregation=meter_pb2.AGGREGATION_SUM, expression="input"
)


@pytest.fixture(scope="module")
async def ingest(server_root: Path) -> AsyncIterator[RunningIngest]:
    async with running_ingest(server_root / "streaming-ingest") as running:
        yield running


def key_text(tenant: Tenant) -> str:
    return dict(tenant.key)["authorization"].removeprefix("Bearer ")


def a_client(ingest: RunningIngest, tenant: Tenant) -> Client:
    endpoints = Endpoints(ingest=f"127.0.0.1:{ingest.ports['accept']}")
    return Client(api_key=key_text(tenant), endpoints=endpoints, source="gateway", options=OPTIONS)


async def record(client: Client, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        await client.record_event(UsageEvent("llm.request", "cust-01", {"input": 1}, event_id=f"e{number}"))
        if number % 50 == 0:
            await asyncio.sleep(0)


class Stream:
    """A bare call, opened."""

    def __init__(self, tenant: Tenant, level: pb.AckLevel.ValueType = pb.ACK_LEVEL_QUEUED) -> None:
        stub = ingest_service_pb2_grpc.IngestServiceStub(tenant.ingest.channels["accept"])
        self.call = stub.StreamEvents(metadata=tenant.key)
        self._level = level

    async def open(self) -> pb.StreamCredit:
        await self.call.write(pb.StreamEventsRequest(open=pb.StreamOpen(ack_level=self._level)))
        return (await self.read()).credit

    async def send(self, number: int, *events: usage_event_pb2.UsageEvent, trace_parent: str = "") -> None:
        batch = pb.StreamBatch(number=number, events=events, trace_parent=trace_parent)
        await self.call.write(pb.StreamEventsRequest(batch=batch))

    async def read(self) -> pb.StreamEventsResponse:
        answer = await asyncio.wait_for(self.call.read(), 20)
        assert isinstance(answer, pb.StreamEventsResponse)
        return answer

    async def ends(self) -> grpc.StatusCode:
        await self.call.done_writing()
        assert await asyncio.wait_for(self.call.read(), 20) is grpc.aio.EOF
        return await self.call.code()

    async def fails(self) -> ServiceError:
        with pytest.raises(ServiceError) as caught, typed_errors():
            await asyncio.wait_for(self.call.read(), 20)
        return caught.value


async def windows(tenant: Tenant) -> Sequence[usage_window_pb2.UsageWindow]:
    """What was counted for the customer of these tests."""
    scope = usage_window_service_pb2.UsageScope(customer_id="cust-01")
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    scope.start_time.FromDatetime(today - timedelta(days=1))
    scope.end_time.FromDatetime(today + timedelta(days=2))
    request = usage_window_service_pb2.ListUsageWindowsRequest(scopes=[scope])
    metadata = (("authorization", f"Bearer {INTERNAL_KEY}"), ("x-steelyard-tenant", tenant.tenant_id))
    return (await tenant.windows.ListUsageWindows(request, metadata=metadata, timeout=20)).windows


async def assert_recorded_once(tenant: Tenant, count: int) -> None:
    """All events are in the log and counted once, however often they were sent."""

    async def all_recorded() -> bool:
        counts = await tenant.counts()
        return counts.recorded == count and counts.recorded + counts.duplicate == counts.accepted

    await until(all_recorded)
    assert sum(int(window.value) for window in await windows(tenant)) == count
    assert (await tenant.counts()).conflict == 0
    assert await tenant.failed_checks() == []


class TestBareCalls:
    async def test_every_batch_has_its_answer_also_beside_a_bad_one(self, ingest: RunningIngest) -> None:
        stream = Stream(await ingest.tenant("bare"), pb.ACK_LEVEL_RECORDED)
        credit = await stream.open()
        once = an_event("1")
        await stream.send(1, once)
        first = await stream.read()
        await stream.send(2)
        await stream.send(5, once, an_event("2"), an_event(""))
        others = {answer.ack.number or answer.failure.number: answer for answer in [await stream.read() for _ in "ab"]}
        code = await stream.ends()

        assert credit.batches > 1
        assert list(first.ack.verdicts) == [pb.EVENT_VERDICT_RECORDED]
        assert first.ack.receipt.batch_number == 1
        assert (others[2].failure.code, others[2].failure.reason) == (3, "BATCH_EMPTY")
        assert list(others[5].ack.verdicts) == [
            pb.EVENT_VERDICT_DUPLICATE,
            pb.EVENT_VERDICT_RECORDED,
            pb.EVENT_VERDICT_REJECTED,
        ]
        assert [(problem.index, problem.reason) for problem in others[5].ack.problems] == [(2, "REQUIRED")]
        assert code is grpc.StatusCode.OK

    async def test_whoever_sends_beyond_the_credit_is_cut_off(self, ingest: RunningIngest) -> None:
        stream = Stream(await ingest.tenant("greedy"))
        credit = await stream.open()
        ingest.processes["record"].send_signal(signal.SIGSTOP)
        try:
            greedy = Stream(await ingest.tenant("greedier"), pb.ACK_LEVEL_RECORDED)
            await greedy.open()
            for number in range(1, credit.batches + 3):
                await greedy.send(number, an_event(str(number)))
            error = await greedy.fails()
        finally:
            ingest.processes["record"].send_signal(signal.SIGCONT)

        assert error.reason == "CREDIT_EXCEEDED"
        await stream.send(1, an_event("1"))
        assert (await stream.read()).ack.number == 1
        assert await stream.ends() is grpc.StatusCode.OK

    async def test_answers_wait_for_a_slow_reader_and_for_nobody_else(self, ingest: RunningIngest) -> None:
        slow, quick = Stream(await ingest.tenant("slow")), Stream(await ingest.tenant("quick"))
        credit = await slow.open()
        await quick.open()
        bad = [an_event("") for _ in range(1_000)]  # The problems of a thousand events make long answers.
        for number in range(1, credit.batches + 1):
            await slow.send(number, *bad)
        await quick.send(1, an_event("1"))
        at_once = await quick.read()
        answers = [await slow.read() for _ in range(credit.batches)]
        await slow.send(credit.batches + 1, an_event("good"))
        last = await slow.read()

        assert at_once.ack.number == 1
        assert sorted(answer.ack.number for answer in answers) == list(range(1, credit.batches + 1))
        assert {len(answer.ack.problems) for answer in answers} == {1_000}
        assert list(last.ack.verdicts) == [pb.EVENT_VERDICT_QUEUED]
        assert [await slow.ends(), await quick.ends()] == [grpc.StatusCode.OK] * 2

    async def test_an_event_can_be_followed_from_its_producer(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("traced")
        await tenant.create_meter(TOKENS)
        stream, trace_id = Stream(tenant, pb.ACK_LEVEL_RECORDED), uuid.uuid4().hex
        await stream.open()
        await stream.send(1, an_event("1", input="1"), trace_parent=f"00-{trace_id}-{'b' * 16}-01")
        await stream.read()
        await stream.ends()
        (window,) = await windows(tenant)

        assert window.trace_parent.split("-")[1] == trace_id

    async def test_a_revoked_key_ends_an_idle_stream(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("revoked")
        stream = Stream(tenant)
        await stream.open()
        await revoke(ingest, tenant)

        assert (await stream.fails()).reason == "API_KEY_REVOKED"

    async def test_whoever_ignores_a_drain_is_sent_away_in_good_order(self, ingest: RunningIngest) -> None:
        stream = Stream(await ingest.tenant("deaf"))
        await stream.open()
        acceptor = ingest.processes.pop("accept")
        acceptor.send_signal(signal.SIGTERM)
        drain = await stream.read()
        await stream.send(1, an_event("1"))
        late = await stream.read()
        end = await asyncio.wait_for(stream.call.read(), 20)
        exit_code = await asyncio.to_thread(acceptor.wait, 20)
        await ingest.start("accept")

        assert drain.HasField("drain")
        assert late.ack.number == 1
        assert (end, await stream.call.code(), exit_code) == (grpc.aio.EOF, grpc.StatusCode.OK, 0)


async def revoke(ingest: RunningIngest, tenant: Tenant) -> None:
    key_id = parse_api_key(key_text(tenant))
    assert key_id is not None
    entry = directory_pb2.ApiKeyEntry(
        key_id=key_id,
        tenant_id=tenant.tenant_id,
        secret_hash=hash_api_key(key_text(tenant)),
        revoked=True,
        version=2,
    )
    publisher = DirectoryPublisher(JetStreamPublisher(ingest.js))
    await publisher.put(directory_subject("key", key_id), entry.SerializeToString(), f"{tenant.tenant_id}:key:2")


class TestSdk:
    async def test_two_tenants_at_once_keep_their_own(self, ingest: RunningIngest) -> None:
        tenants = [await ingest.tenant(name) for name in ("red", "blue")]
        for tenant in tenants:
            await tenant.create_meter(TOKENS)
        async with a_client(ingest, tenants[0]) as red, a_client(ingest, tenants[1]) as blue:
            await asyncio.gather(record(red, 700), record(blue, 400))
            reports = [await red.flush(), await blue.flush()]

        assert [report.counts for report in reports] == [{Verdict.QUEUED: 700}, {Verdict.QUEUED: 400}]
        await assert_recorded_once(tenants[0], 700)
        await assert_recorded_once(tenants[1], 400)

    async def test_a_revoked_key_gives_the_events_back(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("sacked")
        async with a_client(ingest, tenant) as client:
            await record(client, 30)
            await client.flush()
            await revoke(ingest, tenant)

            came_back: list[DeliveryFailed] = []

            async def refused() -> bool:
                await record(client, 1, start=30)
                try:
                    await client.flush()
                except DeliveryFailed as error:
                    came_back.append(error)
                return bool(came_back)

            await until(refused)

        assert isinstance(came_back[0].__cause__, NotAllowed)
        assert [event.event_id for event in came_back[0].events] == ["e30"]

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
    async def test_nothing_is_lost_or_doubled_when_the_acceptor_ends_in_the_middle(
        self, ingest: RunningIngest, number: signal.Signals
    ) -> None:
        tenant = await ingest.tenant(f"ends-{number.name.lower()}")
        await tenant.create_meter(TOKENS)
        async with a_client(ingest, tenant) as client:
            recording = asyncio.create_task(record(client, 20_000))
            await until(lambda: some_recorded(tenant))
            acceptor = ingest.processes.pop("accept")
            acceptor.send_signal(number)
            code = await asyncio.to_thread(acceptor.wait, 20)
            await ingest.start("accept")
            await recording
            report = await client.flush()

        assert code == (-9 if number is signal.SIGKILL else 0)
        assert report.counts == {Verdict.QUEUED: 20_000}
        await assert_recorded_once(tenant, 20_000)
        if number is signal.SIGTERM:  # A drain leaves nothing unanswered that would have to be sent again.
            assert (await tenant.counts()).duplicate == 0

    async def test_a_queue_that_is_away_holds_up_the_stream_and_does_not_end_it(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("queueless")
        await tenant.create_meter(TOKENS)
        async with a_client(ingest, tenant) as client:
            await record(client, 100)
            await client.flush()
            ingest.nats.kill()
            await record(client, 500, start=100)
            flushing = asyncio.create_task(client.flush())
            await asyncio.sleep(1)
            assert not flushing.done()
            await asyncio.to_thread(ingest.nats.start)
            report = await flushing

        assert report.counts == {Verdict.QUEUED: 500}
        await assert_recorded_once(tenant, 600)


async def some_recorded(tenant: Tenant) -> bool:
    return (await tenant.counts()).recorded > 0
