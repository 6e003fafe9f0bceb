"""Asks every process that reads the directory whether it has applied an entry.

The question goes out on a subject that no stream captures: `{"sequence", "epoch"}` with an inbox for replies. Every
reader answers `{"service", "instance", "state": "here"}` at once, and again with `"applied"` when it is so.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from types import TracebackType
from typing import Self

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from libs.clock import monotonic_s
from libs.errors import Unavailable
from libs.messaging.errors import DirectoryNotConfirmed
from libs.messaging.streams import DIRECTORY

_logger = logging.getLogger(__name__)

CONFIRM_SUBJECT = "confirm.directory"

_HERE = "here"
_APPLIED = "applied"
_POLL_S = 0.02
_LONGEST_WAIT_S = 30.0
_ASK_AGAIN_S = 0.5

IsApplied = Callable[[datetime, int], Awaitable[bool]]
"""Whether the entry at a sequence of the stream incarnation created at an instant is applied."""


async def confirm_applied(
    nc: Client, sequence: int, *, expect_services: set[str], hello_window_s: float = 0.3, timeout_s: float = 10.0
) -> None:
    """Return when every process that answers has applied the directory entry at `sequence`.

    At least one process of each expected service must answer. Others may answer within `hello_window_s` and then have
    to confirm too; a process that starts later reads the entry before it is ready.

    :raises DirectoryNotConfirmed: naming services and instances that did not confirm within `timeout_s`
    :raises nats.errors.Error: if the server does not answer
    """
    started_at = monotonic_s()
    epoch = (await nc.jetstream().stream_info(DIRECTORY.name)).created
    if epoch is None:
        raise Unavailable("the server does not tell when the directory was created")
    question = json.dumps({"sequence": sequence, "epoch": epoch.isoformat()}).encode()
    answers = _Answers(expect_services)
    inbox = nc.new_inbox()
    subscription = await nc.subscribe(inbox, cb=answers.receive)
    try:
        # Asked again, so that a process which was reconnecting gets to hear it too.
        ask_at = started_at
        while monotonic_s() < started_at + hello_window_s or not answers.complete:
            if monotonic_s() > started_at + timeout_s:
                raise DirectoryNotConfirmed(sequence, services=answers.silent, instances=answers.waiting)
            if monotonic_s() >= ask_at:
                await nc.publish(CONFIRM_SUBJECT, question, reply=inbox)
                ask_at += _ASK_AGAIN_S
            await asyncio.sleep(_POLL_S)
    finally:
        await subscription.unsubscribe()


class _Answers:
    """Collects who is there and who has applied."""

    def __init__(self, expected: set[str]) -> None:
        self._expected = expected
        self._here: set[tuple[str, str]] = set()
        self._applied: set[tuple[str, str]] = set()

    async def receive(self, message: Msg) -> None:
        if not message.data:
            return  # The server says that nobody listens.
        answer = json.loads(message.data)
        process = (answer["service"], answer["instance"])
        self._here.add(process)
        if answer["state"] == _APPLIED:
            self._applied.add(process)

    @property
    def silent(self) -> set[str]:
        return self._expected - {service for service, _ in self._here}

    @property
    def waiting(self) -> set[str]:
        return {f"{service}/{instance}" for service, instance in self._here - self._applied}

    @property
    def complete(self) -> bool:
        return not self.silent and self._here == self._applied


class ConfirmationResponder:
    """Answers for one process, while it is entered."""

    def __init__(self, nc: Client, *, service: str, instance: str, is_applied: IsApplied) -> None:
        self._nc = nc
        self._process = {"service": service, "instance": instance}
        self._is_applied = is_applied
        self._subscription: Subscription | None = None
        self._answering: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        self._subscription = await self._nc.subscribe(CONFIRM_SUBJECT, cb=self._answer)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._answering.values():
            task.cancel()
        if self._subscription is not None and not self._nc.is_closed:
            await self._subscription.unsubscribe()

    async def _answer(self, message: Msg) -> None:
        await self._say(message.reply, _HERE)
        if message.reply in self._answering:
            return  # Asked again before we are done.
        question = json.loads(message.data)
        answer = self._answer_when_applied(
            message.reply, datetime.fromisoformat(question["epoch"]), int(question["sequence"])
        )
        task = asyncio.create_task(answer)
        self._answering[message.reply] = task
        task.add_done_callback(lambda _: self._answering.pop(message.reply, None))

    async def _answer_when_applied(self, reply: str, epoch: datetime, sequence: int) -> None:
        ends_at = monotonic_s() + _LONGEST_WAIT_S
        while monotonic_s() < ends_at:
            try:
                if await self._is_applied(epoch, sequence):
                    await self._say(reply, _APPLIED)
                    return
            except (nats.errors.Error, TimeoutError) as error:
                _logger.info("directory entry %d is not confirmed yet: %r", sequence, error)
            await asyncio.sleep(_POLL_S)

    async def _say(self, reply: str, state: str) -> None:
        await self._nc.publish(reply, json.dumps({**self._process, "state": state}).encode())
