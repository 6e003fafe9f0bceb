"""When messages of producers are acknowledged: not before their events are on disk, and at some time in any case."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import cast

import pytest
from nats.aio.client import Client

from libs.embedded.nats_server import EmbeddedNats
from libs.errors import Violation
from libs.messaging import PRODUCERS, PullConsumer, ack_floor, connect, ensure_streams
from libs.rpc import Authenticator, NewApiKey, StoredKey, new_api_key
from services.ingest.domain.recording import Fate
from services.ingest.domain.usage_batch import EventMessage
from services.ingest.messaging.producers import DURABLE, ProducerMessages, tenant_of
from services.ingest.usecases.accept_usage import Acceptance, AcceptUsage
from services.ingest.usecases.errors import Overloaded, QueueUnavailable
from tests.component.ingest.running import until

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


def a_key(tenant: str) -> NewApiKey:
    return new_api_key(lambda size: tenant[:1].encode() * size)


KEYS = {tenant: a_key(tenant) for tenant in ("acme", "beta")}


class Keys:
    def find(self, key_id: str) -> StoredKey | None:
        return next((StoredKey(tenant, key.secret_hash) for tenant, key in KEYS.items() if key.key_id == key_id), None)


Reaction = Callable[[str, list[str]], Awaitable[None]]


class FakeAcceptUsage:
    """Notes the ids that were taken, by tenant; before that it does what a test wants."""

    def __init__(self, reaction: Reaction) -> None:
        self.taken: dict[str, list[str]] = {"acme": [], "beta": []}
        self.problems: list[str] = []
        self.calls = 0
        self._reaction = reaction

    async def __call__(
        self,
        *,
        tenant_id: str,
        events: Sequence[EventMessage],
        size_bytes: int,
        wait_recorded: bool,
        time_left_s: float,
        refused: Mapping[int, Violation],
    ) -> Acceptance:
        self.calls += 1
        ids = [event.event_id for event in events]
        await self._reaction(tenant_id, ids)
        self.taken[tenant_id] += ids
        self.problems += [problem.reason for problem in refused.values()]
        fates = [Fate.REJECTED if index in refused else None for index in range(len(events))]
        return Acceptance(1, fates, list(refused.items()), rejected_at_door=len(refused))


@pytest.fixture
async def nats(own_nats: EmbeddedNats) -> AsyncIterator[Client]:
    client = await connect(own_nats.url, name="test")
    await ensure_streams(client.jetstream(), [PRODUCERS])
    yield client
    await client.close()


async def publish(nats: Client, tenant: str, *event_ids: str) -> None:
    for event_id in event_ids:
        event = {"specversion": "1.0", "id": event_id, "source": "/g", "type": "t", "subject": "c"}
        event["time"] = NOW.isoformat()
        headers = {"Authorization": f"Bearer {KEYS[tenant].text}"}
        await nats.jetstream().publish(f"producers.{tenant}.events", json.dumps(event).encode(), headers=headers)


def consuming(nats: Client, accept: FakeAcceptUsage, stopping: asyncio.Event) -> asyncio.Task[None]:
    authenticator = Authenticator(keys=Keys(), operator_key=None, internal_key="of-the-installation", clock=lambda: NOW)
    messages = ProducerMessages(cast(AcceptUsage, accept), authenticator, nats, "epoch")
    consumer = PullConsumer(
        nats.jetstream(),
        stream=PRODUCERS.name,
        durable=DURABLE,
        subjects=PRODUCERS.subjects,
        handler=messages,
        park=messages.refuse,
        ack_wait_s=1.0,
        apart=tenant_of,
    )
    return asyncio.create_task(consumer.run(stopping))


async def unacknowledged(nats: Client) -> int:
    floor = await ack_floor(nats.jetstream(), PRODUCERS.name, DURABLE)
    return floor.num_pending + floor.num_ack_pending


async def nothing(_tenant_id: str, _ids: list[str]) -> None:
    return


class TestMessages:
    async def test_come_again_if_the_acceptor_dies_before_it_acknowledged(self, nats: Client) -> None:
        stored = asyncio.Event()

        async def die_when_stored(_tenant_id: str, _ids: list[str]) -> None:
            stored.set()
            await asyncio.Event().wait()

        await publish(nats, "acme", "1", "2")
        dying = consuming(nats, FakeAcceptUsage(die_when_stored), asyncio.Event())
        await asyncio.wait_for(stored.wait(), 20)
        dying.cancel()
        with suppress(asyncio.CancelledError):
            await dying
        assert await unacknowledged(nats) == 2

        heir, stopping = FakeAcceptUsage(nothing), asyncio.Event()
        task = consuming(nats, heir, stopping)

        async def settled() -> bool:
            return await unacknowledged(nats) == 0

        await until(settled)
        stopping.set()
        await task
        assert sorted(heir.taken["acme"]) == ["1", "2"]

    async def test_wait_while_the_queue_does_not_take_them_and_hold_up_no_other_tenant(self, nats: Client) -> None:
        is_full = True

        async def acme_must_wait(tenant_id: str, _ids: list[str]) -> None:
            if tenant_id == "acme" and is_full:
                raise Overloaded("too much", retry_after_s=Decimal(1))

        accept, stopping = FakeAcceptUsage(acme_must_wait), asyncio.Event()
        await publish(nats, "acme", "1")
        await publish(nats, "beta", "2", "3")
        task = consuming(nats, accept, stopping)

        async def beta_is_taken() -> bool:
            return sorted(accept.taken["beta"]) == ["2", "3"]

        await until(beta_is_taken)
        assert accept.taken["acme"] == []
        is_full = False

        async def settled() -> bool:
            return await unacknowledged(nats) == 0

        await until(settled)
        stopping.set()
        await task
        assert accept.taken["acme"] == ["1"]

    async def test_whose_fate_is_unknown_are_taken_again(self, nats: Client) -> None:
        accept = FakeAcceptUsage(nothing)

        async def first_unknown(_tenant_id: str, _ids: list[str]) -> None:
            if accept.calls == 1:
                raise QueueUnavailable("no answer", retry_after_s=Decimal(1))

        accept._reaction = first_unknown
        stopping = asyncio.Event()
        await publish(nats, "acme", "1")
        task = consuming(nats, accept, stopping)

        async def settled() -> bool:
            return accept.taken["acme"] == ["1"] and await unacknowledged(nats) == 0

        await until(settled)
        stopping.set()
        await task

    async def test_that_break_us_become_a_rejected_event_in_the_end_and_the_others_go_on(self, nats: Client) -> None:
        async def broken(_tenant_id: str, ids: list[str]) -> None:
            if "bad" in ids:
                raise ZeroDivisionError

        accept, stopping = FakeAcceptUsage(broken), asyncio.Event()
        await publish(nats, "acme", "1", "bad", "2")
        task = consuming(nats, accept, stopping)

        async def settled() -> bool:
            return accept.problems == ["UNPROCESSABLE"] and await unacknowledged(nats) == 0

        await until(settled)
        stopping.set()
        await task
        assert sorted(accept.taken["acme"]) == ["", "1", "2"]
