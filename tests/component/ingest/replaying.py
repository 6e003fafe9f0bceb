"""Replays, carried out by hand."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from decimal import Decimal

from libs.database import Database
from services.ingest.domain.replays import Replay, ReplayDifference, ReplayMode, ReplayScope, ReplayState
from services.ingest.store.reconciliation import PostgresReconciliationStore
from services.ingest.store.replay_steps import PostgresReplayQueue
from services.ingest.store.replays import PostgresReplayStore
from services.ingest.usecases.reconcile import Reconcile
from services.ingest.usecases.replays import ChangeReplays, DifferenceCursor, ReplayMutation, StartReplayRequest
from services.ingest.usecases.run_replays import RunReplays
from tests.component.ingest.builders import NOON, fetch

LATER = NOON + timedelta(hours=2)
Window = tuple[str, str, datetime, str, Decimal, int, int, int]


def mutation(tenant: str = "acme", request_id: str = "", meaning: bytes = b"meaning") -> ReplayMutation:
    return ReplayMutation(tenant, request_id or str(uuid.uuid4()), meaning, "key-1")


class Replaying:
    """People's decisions, and the worker's steps one by one."""

    def __init__(self, worker: Database, api: Database) -> None:
        self.api = api
        self.store = PostgresReplayStore(api)
        self.change = ChangeReplays(self.store, lambda: NOON)
        self.queue = PostgresReplayQueue(worker)
        self.step = RunReplays(self.queue, lambda: LATER, 1.0)

    async def start(
        self,
        mode: ReplayMode = ReplayMode.REBUILD,
        *,
        dry_run: bool = False,
        meters: tuple[str, ...] = (),
        customers: tuple[str, ...] = (),
        start: datetime | None = None,
        end: datetime | None = None,
        tenant: str = "acme",
    ) -> str:
        scope = ReplayScope(meters, customers, start, end)
        return (await self.change.start(mutation(tenant), StartReplayRequest(mode, dry_run, scope))).replay_id

    async def built(self, replay_id: str) -> Replay:
        """Take steps until people have to decide, or there is nothing left to decide."""
        return await self.until(replay_id, ReplayState.READY, ReplayState.DONE)

    async def until(self, replay_id: str, *states: ReplayState) -> Replay:
        for _ in range(1_000):
            replay = await self.get(replay_id)
            if replay.state in states:
                return replay
            assert await self.step(), replay
        raise AssertionError(f"{replay_id} comes to no end")

    async def confirmed(self, replay_id: str) -> Replay:
        await self.change.confirm(mutation(), replay_id)
        done = await self.until(replay_id, ReplayState.DONE)
        await self.rest()
        return done

    async def rest(self) -> None:
        """Take steps until nothing is queued."""
        while await self.step():
            pass

    async def get(self, replay_id: str) -> Replay:
        return await self.store.get("acme", replay_id)

    async def differences(self, replay_id: str, at_once: int = 1_000) -> list[ReplayDifference]:
        found: list[ReplayDifference] = []
        after: DifferenceCursor | None = None
        while page := await self.store.differences("acme", replay_id, after, at_once):
            found += page
            after = page[-1].meter_id, page[-1].customer_id, page[-1].hour
        return found

    async def windows(self, *meters: str) -> list[Window]:
        """All that hold events, without their versions."""
        return await fetch(  # type: ignore[return-value]
            self.api,
            "acme",
            "SELECT meter_id, customer_id, window_start, dimensions::text, value, event_count, latest_ns,"
            " latest_position FROM usage_windows WHERE event_count > 0 AND ($1::text[] = '{}' OR meter_id = ANY ($1))"
            " ORDER BY 1, 2, 3, 4",
            list(meters),
        )

    async def reconciles(self) -> bool:
        checks = await Reconcile(PostgresReconciliationStore(self.api))("acme", None)
        return all(check.holds for check in checks)
