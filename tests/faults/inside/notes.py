"""Notes of what happens to a process, for the totals of a run. They outlive the process: each is a line of a file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Any

from nats.aio.msg import Msg

from libs.database.retry import sqlstate
from libs.messaging.consumer import PullConsumer
from libs.messaging.publisher import JetStreamPublisher, Published
from tests.faults.inside.seams import module
from tests.faults.inside.switches import Switches

REDELIVERED, PUBLISH_UNANSWERED, PUBLISH_DUPLICATE = "redelivered", "publish_unanswered", "publish_duplicate"
COMMIT_UNKNOWN, SERIALIZATION_RETRY, KNOWN_BATCH = "commit_unknown", "serialization_retry", "known_batch"
GATEWAY_UNKNOWN, HELD_BACK, DELIVERED_AGAIN = "gateway_unknown", "held_back", "delivered_again"
PUBLISHED_AGAIN = "published_again"

ALL = (
    REDELIVERED,
    PUBLISH_UNANSWERED,
    PUBLISH_DUPLICATE,
    COMMIT_UNKNOWN,
    SERIALIZATION_RETRY,
    KNOWN_BATCH,
    GATEWAY_UNKNOWN,
    HELD_BACK,
    DELIVERED_AGAIN,
    PUBLISHED_AGAIN,
)

_descriptor: int | None = None


def note(what: str, times: int = 1) -> None:
    """Note that something happened; nothing without a file for it."""
    if _descriptor is not None and times:
        os.write(_descriptor, f"{what}\n".encode() * times)  # One write: appended whole, even if we die next.


def install(switches: Switches, service: str) -> None:
    """Watch publishing, consuming and committing, and what else the service does."""
    global _descriptor
    if switches.notes_file is not None:
        _descriptor = os.open(switches.notes_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    _watch_publishing()
    _watch_consuming()
    _watch_commits()
    if service == "ingest":
        _watch_recorder()
    if service == "payments":
        _watch_gateway()


def _watch_recorder() -> None:
    """Note batches that are known already."""
    from services.ingest.domain.usage_batch import UsageBatch
    from services.ingest.store.recording import PostgresRecordingStore

    add_batches = PostgresRecordingStore.add_batches

    async def noted(self: PostgresRecordingStore, batches: Sequence[UsageBatch]) -> Mapping[int, int]:
        new = await add_batches(self, batches)
        note(KNOWN_BATCH, len(batches) - len(new))
        return new

    PostgresRecordingStore.add_batches = noted  # type: ignore[method-assign]


def _watch_gateway() -> None:
    """Note calls of the gateway without an answer."""
    from services.payments.clients.sandbox_gateway import SandboxGateway
    from services.payments.domain.gateway import ChargeRequest, NoAnswer, Outcome

    charge = SandboxGateway.charge

    async def noted(self: SandboxGateway, tenant_id: str, request: ChargeRequest) -> Outcome:
        outcome = await charge(self, tenant_id, request)
        note(GATEWAY_UNKNOWN, isinstance(outcome, NoAnswer))
        return outcome

    SandboxGateway.charge = noted  # type: ignore[method-assign]


def _watch_publishing() -> None:
    send_once = JetStreamPublisher._send_once

    async def noted(self: JetStreamPublisher, *arguments: Any) -> Published:
        try:
            published = await send_once(self, *arguments)
        except TimeoutError:
            note(PUBLISH_UNANSWERED)
            raise
        note(PUBLISH_DUPLICATE, published.duplicate)
        return published

    JetStreamPublisher._send_once = noted  # type: ignore[method-assign, assignment]


def _watch_consuming() -> None:
    process = PullConsumer._process

    async def noted(self: PullConsumer, messages: Sequence[Msg], epoch: datetime, stopping: asyncio.Event) -> None:
        note(REDELIVERED, sum(message.metadata.num_delivered > 1 for message in messages))
        await process(self, messages, epoch, stopping)

    PullConsumer._process = noted  # type: ignore[method-assign]


def _watch_commits() -> None:
    database = module("libs.database.database")
    finish = database._finish

    async def noted(commit: Coroutine[object, object, None]) -> None:
        try:
            await finish(commit)
        except Exception as error:
            note(SERIALIZATION_RETRY if sqlstate(error) in ("40001", "40P01") else COMMIT_UNKNOWN)
            raise

    database._finish = noted
