"""Replays as rows."""

from __future__ import annotations

import asyncpg
import orjson

from services.ingest.domain.replays import (
    Replay,
    ReplayMode,
    ReplayPhase,
    ReplayProgress,
    ReplayScope,
    ReplayState,
)
from services.ingest.usecases.errors import ReplayNotFound

COLUMNS = """replay_id, mode, dry_run, meter_ids, customer_ids, range_start, range_end, state, phase, position,
    events_in_scope, events_read, events_measured, events_unmeasured, windows_built, windows_differing, windows_swapped,
    failure, actor, confirmed_by, started_at, updated_at, ended_at"""
GET = f"SELECT {COLUMNS} FROM replays WHERE (tenant_id, replay_id) = ($1, $2)"  # noqa: S608 - of constants
# Who decides meanwhile has the step undone: its state is another one then.
_SAVE = """
UPDATE replays SET state = $5, phase = $6, position = $7::text::jsonb, events_in_scope = $8, events_read = $9,
    events_measured = $10, events_unmeasured = $11, windows_built = $12, windows_differing = $13, windows_swapped = $14,
    updated_at = $15, ended_at = $16, attempts = 0
WHERE (tenant_id, replay_id) = ($1, $2) AND state = $3 AND phase = $4 RETURNING true
"""


async def read_replay(driver: asyncpg.Connection, tenant_id: str, replay_id: str) -> Replay:
    """
    :raises ReplayNotFound: if this transaction sees no such replay
    """
    row = await driver.fetchrow(GET, tenant_id, replay_id)
    if row is None:
        raise ReplayNotFound(f"there is no replay {replay_id}", replayId=replay_id)
    return replay_from_row(row)


async def save_replay(driver: asyncpg.Connection, tenant_id: str, before: Replay, after: Replay) -> bool:
    """Store what a step has come to; return False if the replay is no longer as it was before."""
    progress = after.progress
    saved = await driver.fetchval(
        _SAVE,
        tenant_id,
        before.replay_id,
        before.state,
        before.phase,
        after.state,
        after.phase,
        orjson.dumps(list(after.position)).decode(),
        progress.events_in_scope,
        progress.events_read,
        progress.events_measured,
        progress.events_unmeasured,
        progress.windows_built,
        progress.windows_differing,
        progress.windows_swapped,
        after.updated_at,
        after.ended_at,
    )
    return saved is not None


def replay_from_row(row: asyncpg.Record) -> Replay:
    return Replay(
        replay_id=row["replay_id"],
        mode=ReplayMode(row["mode"]),
        dry_run=row["dry_run"],
        scope=ReplayScope(row["meter_ids"], row["customer_ids"], row["range_start"], row["range_end"]),
        state=ReplayState(row["state"]),
        phase=ReplayPhase(row["phase"]),
        position=row["position"],
        progress=ReplayProgress(
            events_in_scope=row["events_in_scope"],
            events_read=row["events_read"],
            events_measured=row["events_measured"],
            events_unmeasured=row["events_unmeasured"],
            windows_built=row["windows_built"],
            windows_differing=row["windows_differing"],
            windows_swapped=row["windows_swapped"],
        ),
        failure=row["failure"],
        actor=row["actor"],
        confirmed_by=row["confirmed_by"],
        started_at=row["started_at"],
        updated_at=row["updated_at"],
        ended_at=row["ended_at"],
    )
