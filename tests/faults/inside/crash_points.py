"""Named places at which a process dies as if by `kill -9`: around every commit, publish and acknowledgement.

`CRASH_AT=part/point:nth`, for example `keeper/after_commit:3`: the third time that the part `keeper` of the process
gets there. The part (a task that the process supervises, without its number: `recorder`, `window relay`, `grpc` ...)
and the count may be left out.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine, Mapping
from contextvars import ContextVar

from nats.aio.msg import Msg

from libs.messaging.publisher import JetStreamPublisher, Published
from tests.faults.inside.seams import module
from tests.faults.inside.switches import Setting, Switches

BEFORE_COMMIT, AFTER_COMMIT = "before_commit", "after_commit"
BEFORE_PUBLISH, AFTER_PUBLISH = "before_publish", "after_publish"
AFTER_PUBLISH_BEFORE_CONFIRMED = "after_publish_before_confirmed"
AFTER_COMMIT_BEFORE_ACK, AFTER_ACK = "after_commit_before_ack", "after_ack"

POINTS = (
    BEFORE_COMMIT,
    AFTER_COMMIT,
    BEFORE_PUBLISH,
    AFTER_PUBLISH_BEFORE_CONFIRMED,
    AFTER_PUBLISH,
    AFTER_COMMIT_BEFORE_ACK,
    AFTER_ACK,
)

PART: ContextVar[str] = ContextVar("part", default="start")
"""The part of the process that the current task works for; tasks that it starts inherit it."""


class CrashPoints:
    """Counts how often the armed point is reached, and dies there."""

    def __init__(self, switches: Switches) -> None:
        self._switches = switches
        self._armed: Setting | None = None
        self._part, self._point, self._left = "", "", 0

    def reached(self, point: str) -> None:
        """Die here, if this is the place and time."""
        if self.about_to_die(point):
            self.die()

    def about_to_die(self, point: str) -> bool:
        """Count the visit; True if the process has to die in the middle of what comes next."""
        setting = self._switches.current()
        if setting is not self._armed:
            self._armed = setting
            self._part, self._point, self._left = parsed(setting.crash_at)
        if point != self._point or (self._part and self._part != PART.get().rstrip("0123456789 ")):
            return False
        self._left -= 1
        return self._left == 0

    def die(self) -> None:
        """End the process without any clean-up."""
        self._switches.crashed_at(self._armed.crash_at if self._armed else "")
        os.kill(os.getpid(), signal.SIGKILL)


def parsed(crash_at: str) -> tuple[str, str, int]:
    """Split `part/point:nth`.

    :raises ValueError: if there is no such point
    """
    place, _, nth = crash_at.partition(":")
    part, _, point = place.rpartition("/")
    if crash_at and point not in POINTS:
        raise ValueError(f"no crash point {point!r}; there are {', '.join(POINTS)}")
    return part, point, int(nth or 1)


def install(points: CrashPoints) -> None:
    """Put the points around what this process will do."""
    _name_parts()
    _around_commits(points)
    _around_publishing(points)
    _around_acknowledging(points)


def _name_parts() -> None:
    supervise = module("libs.process.supervise")
    run = supervise._run

    async def named(name: str, part: Coroutine[object, object, None], stopping: asyncio.Event) -> None:
        PART.set(name)
        await run(name, part, stopping)

    supervise._run = named


def _around_commits(points: CrashPoints) -> None:
    database = module("libs.database.database")
    finish = database._finish

    async def watched(commit: Coroutine[object, object, None]) -> None:
        points.reached(BEFORE_COMMIT)
        await finish(commit)
        points.reached(AFTER_COMMIT)

    database._finish = watched


def _around_publishing(points: CrashPoints) -> None:
    send_once = JetStreamPublisher._send_once

    async def watched(
        self: JetStreamPublisher, ends_at: float, subject: str, payload: bytes, headers: Mapping[str, str]
    ) -> Published:
        points.reached(BEFORE_PUBLISH)
        if points.about_to_die(AFTER_PUBLISH_BEFORE_CONFIRMED):
            await self._connection.publish(subject, payload, headers=dict(headers))
            await self._connection.flush()
            points.die()
        published = await send_once(self, ends_at, subject, payload, dict(headers))
        points.reached(AFTER_PUBLISH)
        return published

    JetStreamPublisher._send_once = watched  # type: ignore[method-assign]


def _around_acknowledging(points: CrashPoints) -> None:
    ack = Msg.ack

    async def watched(self: Msg) -> None:
        points.reached(AFTER_COMMIT_BEFORE_ACK)
        await ack(self)
        points.reached(AFTER_ACK)

    Msg.ack = watched  # type: ignore[method-assign]
