"""Usage that producers publish to NATS: every form, what is refused, and what comes again."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from nats.js.errors import NotFoundError

from libs.messaging import PRODUCERS, USAGE_RAW, DirectoryPublisher, JetStreamPublisher, ack_floor, directory_subject
from libs.rpc import new_api_key
from services.ingest.messaging.producers import DURABLE
from steelyard.billing.v1 import directory_pb2
from steelyard.cloudevents.v1 import cloud_event_pb2
from steelyard.ingest.v1 import meter_pb2, usage_raw_pb2, usage_service_pb2
from tests.component.ingest.running import INTERNAL_KEY, RunningIngest, Tenant, running_ingest, until

NOW = datetime.now(UTC)
TOKENS = meter_pb2.Meter(
    meter_id="tokens", event_type="llm.request", aggregation=meter_pb2.AGGREGATION_SUM, expression="tokens"
)
JSON, BATCH = "application/cloudevents+json; charset=utf-8", "application/cloudevents-batch+json"
PROTOBUF, PROTOBUF_BATCH = "application/cloudevents+protobuf", "application/cloudevents-batch+protobuf"


@pytest.fixture(scope="module")
async def ingest(server_root: Path) -> AsyncIterator[RunningIngest]:
    async with running_ingest(server_root / "producers") as running:
        yield running


class Producer:
    """A tenant's producer that waits for answers."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.subject = f"producers.{tenant.tenant_id}.events"
        self.authorization = dict(tenant.key)["authorization"]

    async def publish(self, payload: bytes, headers: Mapping[str, str], subject: str = "") -> None:
        """Return when the stream has it."""
        given = {"Authorization": self.authorization} | dict(headers)
        kept = {name: value for name, value in given.items() if value}
        await self.tenant.ingest.js.publish(subject or self.subject, payload, headers=kept)

    async def ask(self, payload: bytes, headers: Mapping[str, str], subject: str = "") -> Any:
        """Return the answer."""
        reply = f"producers.{self.tenant.tenant_id}.replies.{secrets.token_hex(8)}"
        subscription = await self.tenant.ingest.connection.subscribe(reply)
        try:
            await self.tenant.ingest.connection.flush()
            await self.publish(payload, {"Steelyard-Reply": reply} | dict(headers), subject)
            return json.loads((await subscription.next_msg(timeout=20)).data)
        finally:
            await subscription.unsubscribe()

    async def recorded(self) -> int:
        return (await self.tenant.counts()).recorded

    async def exceptions(self) -> list[tuple[str, str, str]]:
        request = usage_service_pb2.ListEventExceptionsRequest()
        page = await self.tenant.usage.ListEventExceptions(request, metadata=self.tenant.key, timeout=20)
        return sorted((item.key.event_id, item.field, item.reason) for item in page.exceptions)


async def a_producer(ingest: RunningIngest, tenant_id: str) -> Producer:
    return Producer(await ingest.tenant(tenant_id))


async def is_settled(ingest: RunningIngest) -> bool:
    """Whether nothing waits for acceptors, whatever became of it."""
    try:
        floor = await ack_floor(ingest.js, PRODUCERS.name, DURABLE)
    except NotFoundError:
        return False
    return (floor.num_pending, floor.num_ack_pending) == (0, 0)


def an_event(event_id: str, **changes: Any) -> dict[str, Any]:
    event = {"specversion": "1.0", "id": event_id, "source": "/gateway", "type": "llm.request", "subject": "cust-01"}
    return event | {"time": NOW.isoformat(), "data": {"tokens": 5}} | changes


def encoded(event: dict[str, Any] | list[Any]) -> bytes:
    return json.dumps(event).encode()


def as_headers(event: dict[str, Any]) -> dict[str, str]:
    return {f"ce-{name}": value for name, value in event.items() if name != "data"}


def as_message(event_id: str) -> cloud_event_pb2.CloudEvent:
    message = cloud_event_pb2.CloudEvent(
        id=event_id, source="/gateway", spec_version="1.0", type="llm.request", text_data='{"tokens": 5}'
    )
    message.attributes["subject"].ce_string = "cust-01"
    message.attributes["time"].ce_timestamp.FromDatetime(NOW)
    return message


QUEUED, REJECTED = "EVENT_VERDICT_QUEUED", "EVENT_VERDICT_REJECTED"


class TestForms:
    async def test_are_the_same_event_in_every_form(self, ingest: RunningIngest) -> None:
        producer = await a_producer(ingest, "forms")
        await producer.tenant.create_meter(TOKENS)
        event, data = an_event("1"), b'{"tokens": 5}'
        batch = cloud_event_pb2.CloudEventBatch(events=[as_message("1")] * 2)

        answers = [
            await producer.ask(encoded(event), {"Content-Type": JSON}),
            await producer.ask(encoded(event), {}),
            await producer.ask(encoded([event, event]), {"Content-Type": BATCH}),
            await producer.ask(data, as_headers(event)),
            await producer.ask(data, as_headers(event) | {"content-type": "application/json"}),
            await producer.ask(as_message("1").SerializeToString(), {"Content-Type": PROTOBUF}),
            await producer.ask(batch.SerializeToString(), {"Content-Type": PROTOBUF_BATCH}),
        ]

        assert [answer["verdicts"] for answer in answers] == [[QUEUED] * count for count in (1, 1, 2, 1, 1, 1, 2)]
        assert all(int(answer["receipt"]["batch_number"]) > 0 for answer in answers)

        async def all_recorded() -> bool:
            counts = await producer.tenant.counts()
            return (counts.recorded, counts.duplicate, counts.conflict) == (1, 8, 0)

        await until(all_recorded)
        assert await producer.tenant.failed_checks() == []

    async def test_headers_are_percent_encoded(self, ingest: RunningIngest) -> None:
        producer = await a_producer(ingest, "encoded")
        headers = as_headers(an_event("caf%C3%A9 100%25")) | {"ce-region": "eu-1"}

        assert (await producer.ask(b'{"tokens": 1.10}', headers))["verdicts"] == [QUEUED]

        async def stored() -> bool:
            return await producer.recorded() == 1

        await until(stored)
        request = usage_service_pb2.GetEventRequest(source="/gateway", event_id="café 100%")
        found = await producer.tenant.usage.GetEvent(request, metadata=producer.tenant.key, timeout=20)
        assert dict(found.event.event.properties) == {"tokens": "1.10", "region": "eu-1"}

    async def test_answers_go_nowhere_but_below_the_tenants_own_subjects(self, ingest: RunningIngest) -> None:
        producer = await a_producer(ingest, "replies")
        heard = await ingest.connection.subscribe("producers.>")
        for number, subject in enumerate(("producers.other.replies.x", "producers.replies.replies.*", "usage.marker")):
            await producer.publish(encoded(an_event(str(number))), {"Steelyard-Reply": subject})

        async def stored() -> bool:
            return await producer.recorded() == 3

        await until(stored)
        assert {message.subject for message in await drained(heard)} == {producer.subject}
        assert (await ingest.js.get_last_msg(USAGE_RAW.name, "usage.marker")).data != b""


async def drained(subscription: Any) -> list[Any]:
    found = []
    try:
        while True:
            found.append(await subscription.next_msg(timeout=0.2))
    except TimeoutError:
        return found
    finally:
        await subscription.unsubscribe()


class TestRefusals:
    async def test_bad_events_are_answered_readable_and_never_come_again(self, ingest: RunningIngest) -> None:
        producer = await a_producer(ingest, "refusals")
        await producer.tenant.create_meter(TOKENS)
        event = an_event("no-number", data={"tokens": "many"})

        async def refused() -> bool:
            # Until the acceptor knows the meter.
            return bool((await producer.ask(encoded(event), {}))["verdicts"] == [REJECTED])

        await until(refused)
        answers = {
            "batch": await producer.ask(encoded([an_event("good"), an_event("late", time="1999-01-01T00:00:00Z")]), {}),
            "no time": await producer.ask(b"", as_headers({"specversion": "1.0", "id": "no-time", "source": "/g"})),
            "no json": await producer.ask(b"{", {}),
            "no type": await producer.ask(b"x", {"Content-Type": "application/cloudevents+avro"}),
            "no protobuf": await producer.ask(b"\xff", {"Content-Type": PROTOBUF}),
            "data": await producer.ask(b"[", as_headers(an_event("no-data"))),
            "too much": await producer.ask(b" " * 800_000, {}),
            "too many": await producer.ask(encoded([{}] * 1_001), {}),
            "ce-data": await producer.ask(b"", as_headers(an_event("smuggled")) | {"ce-data_base64": "e30="}),
            "not utf-8": await producer.ask(b"", as_headers(an_event("%ff"))),
            "not decodable": await producer.ask(b"", as_headers(an_event("a\ufffdb"))),
            "twice": await producer.ask(b"", as_headers(an_event("a")) | {"CE-ID": "b"}),
        }

        assert answers["batch"]["verdicts"] == [QUEUED, REJECTED]
        found = {
            name: [(problem.get("index", 0), problem["reason"]) for problem in answer["problems"]]
            for name, answer in answers.items()
        }
        assert found == {
            "batch": [(1, "TOO_OLD")],
            "no time": [(0, "REQUIRED")],
            "no json": [(0, "NOT_CLOUD_EVENTS")],
            "no type": [(0, "CONTENT_TYPE_UNSUPPORTED")],
            "no protobuf": [(0, "NOT_CLOUD_EVENTS")],
            "data": [(0, "NOT_JSON")],
            "too much": [(0, "BATCH_TOO_LARGE")],
            "too many": [(0, "BATCH_TOO_LARGE")],
            "ce-data": [(0, "INVALID_ATTRIBUTE_NAME")],
            "not utf-8": [(0, "NOT_UNICODE")],
            "not decodable": [(0, "NOT_UNICODE")],
            "twice": [(0, "NAME_REPEATED")],
        }
        readable = {
            ("late", "event_time", "TOO_OLD"),
            ("no-time", "type", "REQUIRED"),
            ("", "json", "NOT_CLOUD_EVENTS"),
            ("no-data", "data", "NOT_JSON"),
        }

        async def are_readable() -> bool:
            return readable <= set(await producer.exceptions())

        await until(are_readable)
        await until(lambda: is_settled(ingest))
        assert await producer.tenant.failed_checks() == []

    @pytest.mark.parametrize(
        ("name", "authorization", "reason"),
        [
            ("no-key", "", "API_KEY_MISSING"),
            ("unknown-key", "Bearer sy_unknown", "API_KEY_INVALID"),
            ("internal-key", f"Bearer {INTERNAL_KEY}", "TENANT_MISMATCH"),
            ("other-key", "of another tenant", "TENANT_MISMATCH"),
        ],
    )
    async def test_without_the_tenants_key_nothing_is_taken(
        self, ingest: RunningIngest, name: str, authorization: str, reason: str
    ) -> None:
        victim = await a_producer(ingest, name)
        if authorization == "of another tenant":
            authorization = (await a_producer(ingest, "intruder")).authorization

        answer = await victim.ask(encoded(an_event("1")), {"Authorization": authorization})

        assert answer["error"]["reason"] == reason
        await until(lambda: is_settled(ingest))
        counts = await victim.tenant.counts()
        assert (counts.sent, await victim.exceptions()) == (0, [])

    async def test_a_key_that_the_directory_tells_later_opens(self, ingest: RunningIngest) -> None:
        producer = await a_producer(ingest, "new-key")
        key = new_api_key(secrets.token_bytes)
        asking = asyncio.create_task(producer.ask(encoded(an_event("1")), {"Authorization": f"Bearer {key.text}"}))

        async def was_tried() -> bool:
            return not await is_settled(ingest)

        await until(was_tried)
        known = directory_pb2.ApiKeyEntry(
            key_id=key.key_id, tenant_id="new-key", secret_hash=key.secret_hash, version=1
        )
        publisher = DirectoryPublisher(JetStreamPublisher(ingest.js))
        await publisher.put(directory_subject("key", key.key_id), known.SerializeToString(), f"later:{key.key_id}")

        assert (await asking)["verdicts"] == [QUEUED]


class TestBursts:
    async def test_many_messages_share_batches_and_the_stream_is_emptied(self, ingest: RunningIngest) -> None:
        producer = await a_producer(ingest, "burst")
        ingest.kill("accept")
        await asyncio.gather(*(producer.publish(encoded(an_event(str(number))), {}) for number in range(600)))
        await ingest.start("accept")

        async def all_recorded() -> bool:
            return await producer.recorded() == 600

        await until(all_recorded)
        last = await ingest.js.get_last_msg(USAGE_RAW.name, "usage.raw.burst")
        assert usage_raw_pb2.AcceptedBatch.FromString(last.data or b"").batch_number < 60

        async def is_purged() -> bool:
            return (await ingest.js.stream_info(PRODUCERS.name)).state.messages == 0

        await until(is_purged)

    async def test_a_message_id_that_another_tenant_used_hides_nothing(self, ingest: RunningIngest) -> None:
        one, other = await a_producer(ingest, "one"), await a_producer(ingest, "other")
        await one.publish(encoded(an_event("1")), {"Nats-Msg-Id": "1"})
        await asyncio.sleep(0.3)  # The window in which the server compares them.
        await other.publish(encoded(an_event("1")), {"Nats-Msg-Id": "1"})

        async def both_recorded() -> bool:
            return (await one.recorded(), await other.recorded()) == (1, 1)

        await until(both_recorded)

    async def test_an_acceptor_killed_before_it_acknowledged_loses_and_doubles_nothing(
        self, ingest: RunningIngest
    ) -> None:
        producer = await a_producer(ingest, "killed")
        await producer.tenant.create_meter(TOKENS)

        async def publish(first: int) -> None:
            for number in range(first, 2_000, 4):
                await producer.publish(encoded(an_event(str(number))), {})

        publishing = [asyncio.create_task(publish(first)) for first in range(4)]
        for _ in range(3):
            recorded = await producer.recorded()

            async def goes_on(before: int = recorded) -> bool:
                return await producer.recorded() > before or all(task.done() for task in publishing)

            await until(goes_on)
            ingest.kill("accept")
            await ingest.start("accept")
        await asyncio.gather(*publishing)

        async def all_recorded() -> bool:
            return await producer.recorded() == 2_000

        await until(all_recorded)
        await until(lambda: is_settled(ingest))
        request = usage_service_pb2.QueryUsageRequest(meter_id="tokens")
        request.start_time.FromSeconds(int(NOW.timestamp()) // 86_400 * 86_400 - 86_400)
        request.end_time.FromSeconds(int(NOW.timestamp()) // 86_400 * 86_400 + 2 * 86_400)
        answer = await producer.tenant.usage.QueryUsage(request, metadata=producer.tenant.key, timeout=20)
        assert [row.value for row in answer.rows] == ["10000"]
        assert await producer.tenant.failed_checks() == []
