"""How far a replay has come, for people: a bar on a terminal, a line per phase elsewhere."""

from __future__ import annotations

import asyncio

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from libs.cli.output import ERRORS, name_of, note
from steelyard import Client
from steelyard.ingest.v1 import replay_service_pb2 as pb

_LOOK_EVERY_S = 0.5
_UNDER_WAY = (pb.REPLAY_STATE_BUILDING, pb.REPLAY_STATE_SWAPPING)


async def followed(client: Client, replay: pb.Replay) -> pb.Replay:
    """Show progress until nothing is under way any more; return the replay as it is then."""
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    phase = ""
    with Progress(*columns, console=ERRORS, disable=not ERRORS.is_terminal) as bar:
        task = bar.add_task("", total=None)
        while replay.state in _UNDER_WAY:
            done, total = _done_of_total(replay)
            bar.update(task, description=_phase(replay), completed=min(done, total), total=total or None)
            if not ERRORS.is_terminal and _phase(replay) != phase:
                phase = _phase(replay)
                note(f"{phase} ({done:,} of {total:,})" if total else phase)
            await asyncio.sleep(_LOOK_EVERY_S)
            replay = (await client.services.replays.GetReplay(pb.GetReplayRequest(replay_id=replay.replay_id))).replay
    return replay


def share(replay: pb.Replay) -> str:
    """How much of the present phase is done, such as 45 %; empty if nothing is under way."""
    done, total = _done_of_total(replay)
    return f"{min(done, total) * 100 // total} %" if total and replay.state in _UNDER_WAY else ""


def _phase(replay: pb.Replay) -> str:
    return name_of(pb.ReplayPhase, replay.phase, "REPLAY_PHASE")


def _done_of_total(replay: pb.Replay) -> tuple[int, int]:
    progress = replay.progress
    if replay.phase == pb.REPLAY_PHASE_SWAPPING:
        return progress.windows_swapped, progress.windows_differing
    return progress.events_read, progress.events_in_scope
