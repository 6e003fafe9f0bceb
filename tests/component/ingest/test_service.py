"""Ingest as it runs: an acceptor, a recorder and a query process over real servers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest

from libs.messaging import INGEST, USAGE_RAW
from libs.rpc import service_error_from
from steelyard.ingest.v1 import ingest_service_pb2 as ingest_pb
from steelyard.ingest.v1 import meter_pb2, usage_raw_pb2, usage_service_pb2, usage_window_pb2, usage_window_service_pb2
from tests.component.ingest.running import INTERNAL_KEY, RunningIngest, Tenant, an_event, running_ingest, until

QUEUED, RECORDED = ingest_pb.EVENT_VERDICT_QUEUED, ingest_pb.EVENT_VERDICT_RECORDED
DUPLICATE, CONFLICT = ingest_pb.EVENT_VERDICT_DUPLICATE, ingest_pb.EVENT_VERDICT_CONFLICT
REJECTED = ingest_pb.EVENT_VERDICT_REJECTED
TOKENS = meter_pb2.Meter(
    meter_id="tokens", event_type="llm.request", aggregation=meter_pb2.AGGREGATION_SUM, expression="input + output"
)
WINDOWS = "ingest.usage_window.changed.v1"


@pytest.fixture(scope="module")
async def ingest(server_root: Path) -> AsyncIterator[RunningIngest]:
    async with running_ingest(server_root / "running-ingest") as running:
        yield running


async def published_windows(ingest: RunningIngest, tenant_id: str) -> list[usage_window_pb2.UsageWindow]:
    """The newest version of each published window of a tenant."""
    newest: dict[str, usage_window_pb2.UsageWindow] = {}
    subscription = await ingest.js.subscribe(WINDOWS, ordered_consumer=True)
    try:
        while True:
            message = await subscription.next_msg(timeout=0.3)
            changed = usage_window_pb2.UsageWindowsChanged.FromString(message.data)
            for window in changed.windows if changed.tenant_id == tenant_id else ():
                key = f"{window.meter_id} {window.customer_id} {window.dimensions} {window.start_time.seconds}"
                if key not in newest or newest[key].version < window.version:
                    newest[key] = window
    except TimeoutError:
        return list(newest.values())
    finally:
        await subscription.unsubscribe()


async def refusal(call: object) -> tuple[str, str]:
    """Code and reason with which a call was refused."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call  # type: ignore[misc]
    error = service_error_from(refused.value)
    return refused.value.code().name, error.reason if error else ""


class TestTheWayOfAnEvent:
    async def test_from_the_call_to_the_published_window_and_the_watermark(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("way")
        await tenant.create_meter(TOKENS)
        before = (await ingest.watermark()).watermark_time.ToNanoseconds()

        answer = await tenant.send(an_event("1", input="10", output="0.5"), an_event("2", input="1", output="1"))

        assert list(answer.verdicts) == [RECORDED, RECORDED]

        async def published() -> bool:
            windows = await published_windows(ingest, "way")
            return [(window.value, window.event_count) for window in windows] == [("12.5", 2)]

        await until(published)

        async def passed() -> bool:
            return (await ingest.watermark()).watermark_time.ToNanoseconds() > before

        await until(passed)
        assert await tenant.failed_checks() == []

    async def test_one_trace_leads_from_the_producer_to_the_window(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("traced")
        await tenant.create_meter(TOKENS)
        trace_id = uuid.uuid4().hex
        traced = Tenant(ingest, "traced", (*tenant.key, ("traceparent", f"00-{trace_id}-{'b' * 16}-01")))

        await traced.send(an_event("1", input="1", output="1"))

        async def published() -> bool:
            return bool(await published_windows(ingest, "traced"))

        await until(published)
        (window,) = await published_windows(ingest, "traced")
        message = await ingest.js.get_last_msg(INGEST.name, WINDOWS)
        assert window.trace_parent.split("-")[1] == trace_id
        assert (message.headers or {})["traceparent"].split("-")[1] == trace_id

    async def test_every_fate_is_answered_in_the_order_of_the_request(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("fates")
        await tenant.create_meter(TOKENS)
        good = an_event("1", input="1", output="1")
        other = an_event("1", input="2", output="1")
        await tenant.send(good)

        answer = await tenant.send(
            an_event("2", input="x", output="1"), good, an_event("3", input="1", output="1"), other, an_event("")
        )

        assert list(answer.verdicts) == [REJECTED, DUPLICATE, RECORDED, CONFLICT, REJECTED]
        assert [(problem.index, problem.field, problem.reason) for problem in answer.problems] == [
            (0, "properties.input", "NOT_A_NUMBER"),
            (3, "event_id", "OTHER_CONTENT"),
            (4, "event_id", "REQUIRED"),
        ]
        counts = await tenant.counts()
        assert (counts.sent, counts.accepted, counts.rejected_at_door) == (6, 4, 2)
        assert (counts.recorded, counts.duplicate, counts.conflict, counts.unassigned) == (2, 1, 1, 2)
        assert await tenant.failed_checks() == []

    async def test_many_small_calls_at_once(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("busy")

        events = [an_event(str(number)) for number in range(60)]

        answers = await asyncio.gather(*(tenant.send(event) for event in [*events, *events[:30]]))

        verdicts = [answer.verdicts[0] for answer in answers]
        assert (verdicts.count(RECORDED), verdicts.count(DUPLICATE)) == (60, 30)
        counts = await tenant.counts()
        assert (counts.recorded, counts.duplicate) == (60, 30)

    async def test_a_tenant_on_a_test_clock_lives_in_its_own_time(self, ingest: RunningIngest) -> None:
        future = datetime(2031, 5, 1, tzinfo=UTC)
        await ingest.clock("timetravel", future)
        tenant = await ingest.tenant("timetravel")
        now, then = an_event("now"), an_event("then")
        then.event_time.FromDatetime(future)

        async def moved() -> bool:
            answer = await tenant.send(now, then)
            return [problem.reason for problem in answer.problems] == ["TOO_OLD"]

        await until(moved)
        request = usage_service_pb2.GetEventRequest(source="gateway", event_id="then")
        stored = (await tenant.usage.GetEvent(request, metadata=tenant.key)).event
        assert stored.accepted_time.ToDatetime(UTC) == future
        assert abs((stored.received_time.ToDatetime(UTC) - datetime.now(UTC)).total_seconds()) < 60


class TestRefusals:
    async def test_of_whole_batches(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("refused")
        big = [an_event(str(number), note="x" * 250, more="y" * 250, most="z" * 250) for number in range(1_000)]

        assert await refusal(tenant.send()) == ("INVALID_ARGUMENT", "BATCH_EMPTY")
        assert await refusal(tenant.send(*[an_event("1")] * 1_001)) == ("INVALID_ARGUMENT", "BATCH_TOO_LARGE")
        assert sum(event.ByteSize() for event in big) > 768 * 1024
        assert await refusal(tenant.send(*big)) == ("INVALID_ARGUMENT", "BATCH_TOO_LARGE")
        unspecified = ingest_pb.ACK_LEVEL_UNSPECIFIED
        assert await refusal(tenant.send(an_event("1"), level=unspecified)) == ("INVALID_ARGUMENT", "ACK_LEVEL_MISSING")

    async def test_the_largest_batches_pass_also_if_all_is_refused(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("large")
        good = [an_event(str(number), note="x" * 256, more="y" * 256) for number in range(1_000)]
        bad = [an_event("é" * 128 + "x" * 60, customer_id="語" * 128 + "!", note="x") for _ in range(1_000)]

        recorded = await tenant.send(*good)
        refused = await tenant.send(*bad)

        assert set(recorded.verdicts) == {RECORDED}
        assert set(refused.verdicts) == {REJECTED}

        async def counted() -> bool:
            counts = await tenant.counts()
            return (counts.recorded, counts.rejected_at_door) == (1_000, 1_000)

        await until(counted)

    async def test_unknown_customers_of_a_strict_tenant_until_they_exist(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("strict", strict=True)

        answer = await tenant.send(an_event("1", customer_id="new"))
        assert [(item.field, item.reason) for item in answer.problems] == [("customer_id", "UNKNOWN_CUSTOMER")]

        await ingest.customer("strict", "new")

        async def accepted() -> bool:
            return list((await tenant.send(an_event("1", customer_id="new"))).verdicts) == [RECORDED]

        await until(accepted)

        async def assigned() -> bool:
            counts = await tenant.counts()
            return (counts.recorded, counts.unassigned) == (1, 0)

        await until(assigned)

    async def test_of_other_peoples_data(self, ingest: RunningIngest) -> None:
        mine, theirs = await ingest.tenant("mine"), await ingest.tenant("theirs")
        await mine.send(an_event("secret"))
        request = usage_service_pb2.GetEventRequest(source="gateway", event_id="secret")

        assert (await mine.usage.GetEvent(request, metadata=mine.key)).event.event.event_id == "secret"
        assert await refusal(mine.usage.GetEvent(request, metadata=theirs.key)) == ("NOT_FOUND", "EVENT_NOT_FOUND")
        listed = await mine.usage.ListEvents(usage_service_pb2.ListEventsRequest(), metadata=theirs.key)
        assert not listed.events
        digests = usage_window_service_pb2.GetUsageDigestsRequest()
        assert (await refusal(mine.windows.GetUsageDigests(digests, metadata=mine.key)))[0] == "PERMISSION_DENIED"


class TestMeters:
    async def test_are_made_once_per_request(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("meters")
        request_id = str(uuid.uuid4())
        other = meter_pb2.Meter(meter_id="calls", event_type="x", aggregation=meter_pb2.AGGREGATION_COUNT)

        first = await tenant.create_meter(TOKENS, request_id)

        assert await tenant.create_meter(TOKENS, request_id) == first
        assert await refusal(tenant.create_meter(other, request_id)) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
        assert await refusal(tenant.create_meter(TOKENS)) == ("ALREADY_EXISTS", "METER_EXISTS")
        assert (await refusal(tenant.create_meter(meter_pb2.Meter())))[0] == "INVALID_ARGUMENT"


class TestFailures:
    async def test_postgres_is_down_and_usage_is_accepted(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("outage")
        await tenant.send(an_event("before"))
        ingest.postgres.kill()
        try:
            answers = [
                await tenant.send(an_event(f"during-{number}"), level=ingest_pb.ACK_LEVEL_QUEUED)
                for number in range(20)
            ]
            impatient = await tenant.send(an_event("impatient"), timeout_s=1)
        finally:
            ingest.postgres.start()

        assert {verdict for answer in answers for verdict in answer.verdicts} == {QUEUED}
        assert list(impatient.verdicts) == [QUEUED]

        async def recorded() -> bool:
            try:
                return (await tenant.counts()).recorded == 22
            except grpc.aio.AioRpcError:
                return False

        await until(recorded)
        answered = await tenant.send(an_event("impatient"), an_event("after"))
        assert answered.verdicts[1] == RECORDED  # The first has another event time, and so other content.
        assert await tenant.failed_checks() == []

    @pytest.mark.slow
    async def test_a_recorder_is_killed_again_and_again(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("killed")
        await tenant.create_meter(TOKENS)
        sent = 0

        async def send() -> None:
            nonlocal sent
            for number in range(150):
                events = [an_event(f"{number}-{each}", input="1", output="1") for each in range(20)]
                await tenant.send(*events, level=ingest_pb.ACK_LEVEL_QUEUED)
                sent += len(events)

        async def kill() -> None:
            for _ in range(3):
                await asyncio.sleep(0.3)
                ingest.kill("record")
                await ingest.start("record")

        await asyncio.gather(send(), kill())

        async def recorded() -> bool:
            return (await tenant.counts()).recorded == sent

        await until(recorded)
        counts = await tenant.counts()
        assert (counts.recorded, counts.duplicate, counts.conflict) == (3_000, 0, 0)
        assert await tenant.failed_checks() == []

    async def test_the_queue_repeats_a_batch_under_another_message_id(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("repeated")
        await tenant.send(an_event("1"), an_event("1", extra="x"))
        message = await ingest.js.get_last_msg(USAGE_RAW.name, "usage.raw.repeated")
        batch = usage_raw_pb2.AcceptedBatch.FromString(message.data or b"")
        replies = await ingest.connection.subscribe("reply.test")
        batch.reply_subject = "reply.test"

        await ingest.js.publish("usage.raw.repeated", batch.SerializeToString())

        reply = usage_raw_pb2.BatchRecorded.FromString((await replies.next_msg(timeout=10)).data)
        assert [(item.ordinal, item.verdict) for item in reply.exceptions] == [(1, CONFLICT)]
        counts = await tenant.counts()
        assert (counts.recorded, counts.duplicate, counts.conflict) == (1, 0, 1)

    async def test_a_poison_message_is_parked_and_holds_its_tenant_alone(self, ingest: RunningIngest) -> None:
        tenant, other = await ingest.tenant("poisoned"), await ingest.tenant("healthy")
        await ingest.js.publish("usage.raw.poisoned", b"\xff\xff not a batch")

        await asyncio.gather(tenant.send(an_event("1")), other.send(an_event("1")))

        async def held() -> bool:
            return [hold.tenant_id for hold in (await ingest.watermark()).holds] == ["poisoned"]

        await until(held)
        passed_at = (await ingest.watermark()).watermark_time.ToNanoseconds()

        async def goes_on() -> bool:
            return (await ingest.watermark()).watermark_time.ToNanoseconds() > passed_at

        await until(goes_on)

    async def test_a_batch_that_names_another_tenant_is_parked(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("victim")
        await tenant.send(an_event("1"))
        message = await ingest.js.get_last_msg(USAGE_RAW.name, "usage.raw.victim")
        batch = usage_raw_pb2.AcceptedBatch.FromString(message.data or b"")
        batch.batch_number += 1

        await ingest.js.publish("usage.raw.intruder", batch.SerializeToString())

        async def held() -> bool:
            return "intruder" in [hold.tenant_id for hold in (await ingest.watermark()).holds]

        await until(held)
        assert (await tenant.counts()).recorded == 1

    async def test_nats_is_away_for_a_while(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("unplugged")
        await tenant.send(an_event("1"))
        ingest.nats.kill()
        try:
            assert await refusal(tenant.send(an_event("2"), timeout_s=2)) == ("UNAVAILABLE", "QUEUE_UNAVAILABLE")
        finally:
            ingest.nats.start()

        async def accepted() -> bool:
            try:
                await tenant.send(an_event("3"), timeout_s=10)
            except grpc.aio.AioRpcError:
                return False
            return True

        await until(accepted)
        assert await tenant.failed_checks() == []

    async def test_the_internal_key_reads_windows_for_a_tenant(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("internal")
        await tenant.create_meter(TOKENS)
        event = an_event("1", input="1", output="1")
        await tenant.send(event)
        scope = usage_window_service_pb2.UsageScope(customer_id="cust-01")
        scope.start_time.seconds = event.event_time.seconds // 900 * 900
        scope.end_time.seconds = scope.start_time.seconds + 900
        metadata = (("authorization", f"Bearer {INTERNAL_KEY}"), ("x-steelyard-tenant", "internal"))

        windows = await tenant.windows.ListUsageWindows(
            usage_window_service_pb2.ListUsageWindowsRequest(scopes=[scope]), metadata=metadata
        )
        digests = await tenant.windows.GetUsageDigests(
            usage_window_service_pb2.GetUsageDigestsRequest(scopes=[scope]), metadata=metadata
        )

        assert [(window.meter_id, window.value) for window in windows.windows] == [("tokens", "2")]
        assert [(digest.value_sum, digest.highest_version) for digest in digests.digests] == [
            ("2", windows.windows[0].version)
        ]
