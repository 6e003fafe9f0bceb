"""Start, confirm and cancel replays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from libs.clock import Clock
from libs.errors import InvalidInput, Violation
from libs.ids import check_request_id, check_resource_id, new_id
from libs.periods import is_window_aligned
from services.ingest.domain.replays import (
    FIRST_INSTANT,
    LAST_INSTANT,
    Replay,
    ReplayDifference,
    ReplayMode,
    ReplayScope,
)

MAX_METERS = 100
MAX_CUSTOMERS = 1_000

DifferenceCursor = tuple[str, str, datetime]
"""Meter, customer, hour."""


@dataclass(frozen=True, slots=True)
class ReplayMutation:
    """By which a repeated request is known, and who asks; `fingerprint` is a digest of the request without its id."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    actor: str


@dataclass(frozen=True, slots=True)
class StartReplayRequest:
    mode: ReplayMode
    dry_run: bool
    scope: ReplayScope


class ReplayStore(Protocol):
    """Each call is a transaction of one tenant; changes happen once per request id."""

    async def start(
        self, mutation: ReplayMutation, request: StartReplayRequest, replay_id: str, now: datetime
    ) -> Replay:
        """
        :raises MeterNotFound, ReplayActive, RequestIdReused: and nothing is stored
        """

    async def confirm(self, mutation: ReplayMutation, replay_id: str, now: datetime) -> Replay:
        """
        :raises ReplayNotFound, ReplayNotReady, RequestIdReused: and nothing changes
        """

    async def cancel(self, mutation: ReplayMutation, replay_id: str, now: datetime) -> Replay:
        """
        :raises ReplayNotFound, ReplayNotCancellable, RequestIdReused: and nothing changes
        """

    async def get(self, tenant_id: str, replay_id: str) -> Replay:
        """
        :raises ReplayNotFound: if there is no such replay
        """

    async def list(self, tenant_id: str, before: str | None, limit: int) -> Sequence[Replay]:
        """Return replays, the newest first, those before an id."""

    async def differences(
        self, tenant_id: str, replay_id: str, after: DifferenceCursor | None, limit: int
    ) -> Sequence[ReplayDifference]:
        """Return differences in the order of their cursors.

        :raises ReplayNotFound: if there is no such replay
        """


class ChangeReplays:
    """What people decide about replays."""

    def __init__(self, replays: ReplayStore, clock: Clock) -> None:
        self._replays = replays
        self._clock = clock

    async def start(self, mutation: ReplayMutation, request: StartReplayRequest) -> Replay:
        """
        :raises InvalidInput: naming everything that is wrong
        :raises MeterNotFound, ReplayActive, RequestIdReused: and nothing is stored
        """
        _check(check_request_id(mutation.request_id), *_violations(request))
        return await self._replays.start(mutation, request, new_id("replay"), self._clock())

    async def confirm(self, mutation: ReplayMutation, replay_id: str) -> Replay:
        """Let the windows that differ become what the log gives.

        :raises InvalidInput, ReplayNotFound, ReplayNotReady, RequestIdReused: and nothing changes
        """
        _check(check_request_id(mutation.request_id))
        return await self._replays.confirm(mutation, replay_id, self._clock())

    async def cancel(self, mutation: ReplayMutation, replay_id: str) -> Replay:
        """Forget what was built; windows are as if the replay had never been.

        :raises InvalidInput, ReplayNotFound, ReplayNotCancellable, RequestIdReused: and nothing changes
        """
        _check(check_request_id(mutation.request_id))
        return await self._replays.cancel(mutation, replay_id, self._clock())


def _violations(request: StartReplayRequest) -> Iterator[Violation | None]:
    scope = request.scope
    if request.mode is ReplayMode.BACKFILL and not scope.meter_ids:
        yield Violation("scope.meter_ids", "REQUIRED", "a backfill is of certain meters")
    for name, ids, limit in (
        ("meter_ids", scope.meter_ids, MAX_METERS),
        ("customer_ids", scope.customer_ids, MAX_CUSTOMERS),
    ):
        if len(ids) > limit:
            yield Violation(f"scope.{name}", "TOO_MANY", f"must be at most {limit}, are {len(ids)}")
            continue
        for index, value in enumerate(ids):
            yield check_resource_id(value, f"scope.{name}[{index}]")
            if value in ids[:index]:
                yield Violation(f"scope.{name}[{index}]", "DUPLICATE", f"{value} is named twice")
    for name, at in (("start_time", scope.start), ("end_time", scope.end)):
        if at is not None and not FIRST_INSTANT <= at <= LAST_INSTANT:
            yield Violation(f"scope.{name}", "OUT_OF_RANGE", "must lie in the years 1970 to 2261")
        elif at is not None and not is_window_aligned(at):
            yield Violation(f"scope.{name}", "NOT_A_WINDOW", "must be a whole quarter of an hour")
    if scope.start is not None and scope.end is not None and scope.start >= scope.end:
        yield Violation("scope.end_time", "NOT_AFTER_START", "must be after start_time")


def _check(*found: Violation | None) -> None:
    violations = [violation for violation in found if violation is not None]
    if violations:
        raise InvalidInput(violations)
