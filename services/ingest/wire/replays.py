"""Replays on the wire."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from libs.money import plain
from services.ingest.domain.replays import (
    Replay,
    ReplayDifference,
    ReplayMode,
    ReplayPhase,
    ReplayScope,
    ReplayState,
)
from services.ingest.wire.times import time_to_pb
from steelyard.ingest.v1 import replay_service_pb2 as pb

MODES: dict[int, ReplayMode] = {
    pb.REPLAY_MODE_REBUILD: ReplayMode.REBUILD,
    pb.REPLAY_MODE_BACKFILL: ReplayMode.BACKFILL,
}
_MODES = {
    ReplayMode.REBUILD: pb.REPLAY_MODE_REBUILD,
    ReplayMode.BACKFILL: pb.REPLAY_MODE_BACKFILL,
}
_STATES = {
    ReplayState.BUILDING: pb.REPLAY_STATE_BUILDING,
    ReplayState.READY: pb.REPLAY_STATE_READY,
    ReplayState.SWAPPING: pb.REPLAY_STATE_SWAPPING,
    ReplayState.DONE: pb.REPLAY_STATE_DONE,
    ReplayState.CANCELLED: pb.REPLAY_STATE_CANCELLED,
    ReplayState.FAILED: pb.REPLAY_STATE_FAILED,
}
_PHASES = {
    ReplayPhase.COUNTING: pb.REPLAY_PHASE_COUNTING,
    ReplayPhase.MEASURING: pb.REPLAY_PHASE_MEASURING,
    ReplayPhase.COMPARING: pb.REPLAY_PHASE_COMPARING,
    ReplayPhase.SWAPPING: pb.REPLAY_PHASE_SWAPPING,
    ReplayPhase.ENDED: pb.REPLAY_PHASE_ENDED,
}


def replay_to_pb(replay: Replay) -> pb.Replay:
    progress = replay.progress
    return pb.Replay(
        replay_id=replay.replay_id,
        mode=_MODES[replay.mode],
        dry_run=replay.dry_run,
        scope=_scope_to_pb(replay.scope),
        state=_STATES[replay.state],
        phase=_PHASES[replay.phase],
        progress=pb.ReplayProgress(
            events_in_scope=progress.events_in_scope,
            events_read=progress.events_read,
            events_measured=progress.events_measured,
            events_unmeasured=progress.events_unmeasured,
            windows_built=progress.windows_built,
            windows_differing=progress.windows_differing,
            windows_swapped=progress.windows_swapped,
        ),
        failure=replay.failure,
        actor=replay.actor,
        confirmed_by=replay.confirmed_by,
        start_time=time_to_pb(replay.started_at),
        update_time=time_to_pb(replay.updated_at),
        end_time=None if replay.ended_at is None else time_to_pb(replay.ended_at),
    )


def _scope_to_pb(scope: ReplayScope) -> pb.ReplayScope:
    times: dict[str, Timestamp] = {}
    if scope.start is not None:
        times["start_time"] = time_to_pb(scope.start)
    if scope.end is not None:
        times["end_time"] = time_to_pb(scope.end)
    return pb.ReplayScope(meter_ids=scope.meter_ids, customer_ids=scope.customer_ids, **times)


def difference_to_pb(difference: ReplayDifference) -> pb.ReplayDifference:
    return pb.ReplayDifference(
        meter_id=difference.meter_id,
        customer_id=difference.customer_id,
        hour_time=time_to_pb(difference.hour),
        window_count=difference.windows,
        live_value=plain(difference.live_value),
        live_event_count=difference.live_events,
        built_value=plain(difference.built_value),
        built_event_count=difference.built_events,
    )
