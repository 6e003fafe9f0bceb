"""Carry replays out, a step at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from libs.clock import Clock, monotonic_s
from libs.database import is_outage, retry_transient
from services.ingest.domain.replays import (
    Replay,
    ReplayMode,
    ReplayPhase,
    ReplayProgress,
    ReplayState,
    measure_later,
)
from services.ingest.usecases.replay_ports import (
    QueuedReplay,
    ReplayChanged,
    ReplayQueue,
    ReplayStep,
    WindowPosition,
)
from services.ingest.usecases.standing_work import repeat

_logger = logging.getLogger(__name__)

_IDLE_S = 1.0
_MAX_ATTEMPTS = 5
_AGAIN_AFTER = timedelta(seconds=2)
_LONGEST_REST_S = 60.0


class RunReplays:
    """Takes steps of whatever replays are due. Each step is a transaction that holds its progress as well, so a worker
    that dies has either taken it or not. It works for at most `share` of the time, and so does a replay, however many
    workers there are."""

    def __init__(
        self,
        queue: ReplayQueue,
        clock: Clock,
        share: float,
        *,
        elapsed_s: Callable[[], float] = monotonic_s,
    ) -> None:
        """
        :raises ValueError: if the share is not above 0 and at most 1
        """
        if not 0 < share <= 1:
            raise ValueError(f"a share is above 0 and at most 1: {share}")
        self._queue = queue
        self._clock = clock
        self._share = share
        self._elapsed_s = elapsed_s

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until `stopping` is set."""

        async def work() -> float:
            began_s = self._elapsed_s()
            worked = await self()
            return self._rest_s(self._elapsed_s() - began_s) if worked else _IDLE_S

        await repeat("replays", work, stopping)

    async def __call__(self) -> bool:
        """Take a step of each replay that is due; return whether there was any."""
        worked = False
        for queued in await self._queue.due(self._clock()):
            try:
                worked |= await retry_transient(lambda queued=queued: self._step(queued))  # type: ignore[misc]
            except ReplayChanged:
                worked = True
            except Exception as error:
                if is_outage(error):
                    raise
                _logger.exception("a step of replay %s failed", queued[1])
                now = self._clock()
                await self._queue.note_failure(queued, repr(error)[:500], now, now + _AGAIN_AFTER, _MAX_ATTEMPTS)
        return worked

    async def _step(self, queued: QueuedReplay) -> bool:
        began_s, now = self._elapsed_s(), self._clock()
        async with self._queue.step(queued) as step:
            if step is None:
                return False
            await _take(step, now)
            await step.rest(self._clock() + timedelta(seconds=self._rest_s(self._elapsed_s() - began_s)))
            return True

    def _rest_s(self, worked_s: float) -> float:
        return min(worked_s * (1 / self._share - 1), _LONGEST_REST_S)


async def _take(step: ReplayStep, now: datetime) -> None:
    match step.replay.phase:
        case ReplayPhase.COUNTING:
            await _count(step, now)
        case ReplayPhase.MEASURING:
            await _measure(step, now)
        case ReplayPhase.COMPARING:
            await _compare(step, now)
        case ReplayPhase.SWAPPING:
            await _swap(step, now)
        case ReplayPhase.ENDED:
            if not await step.forget():
                await step.leave()


async def _count(step: ReplayStep, now: datetime) -> None:
    replay = step.replay
    progress = ReplayProgress(events_in_scope=await step.count(replay.scope))
    if replay.mode is ReplayMode.BACKFILL:
        # What was recorded without the meter is committed then, and everything later is recorded with it.
        await step.wait_for_recorders()
        await step.save(_in_phase(replay, ReplayPhase.MEASURING, progress, now))
    else:
        await step.save(_in_phase(replay, ReplayPhase.COMPARING, progress, now))


async def _measure(step: ReplayStep, now: datetime) -> None:
    replay = step.replay
    meters = await step.meters(replay.scope)
    page = await step.page(replay.scope, meters, _log_position(replay))
    readings = measure_later(page.logged, meters)
    kept = await step.keep(page.logged, readings)
    progress = replace(
        replay.progress,
        events_read=replay.progress.events_read + page.events,
        events_measured=replay.progress.events_measured + kept,
        events_unmeasured=replay.progress.events_unmeasured + sum(reading.unmeasured for reading in readings),
    )
    if page.position is None:
        await step.save(_in_phase(replay, ReplayPhase.COMPARING, replace(progress, events_read=0), now))
    else:
        await step.save(replace(replay, position=page.position, progress=progress, updated_at=now))


async def _compare(step: ReplayStep, now: datetime) -> None:
    replay = step.replay
    meters = await step.meters(replay.scope)
    start_ns = int(replay.position[0]) if replay.position else replay.scope.first_ns
    found = await step.compare(replay.scope, meters, start_ns, with_kept=replay.mode is ReplayMode.BACKFILL)
    progress = replace(
        replay.progress,
        events_read=replay.progress.events_read + found.events,
        windows_built=replay.progress.windows_built + found.windows,
        windows_differing=replay.progress.windows_differing + found.differing,
    )
    if found.next_ns is not None:
        await step.save(replace(replay, position=[found.next_ns], progress=progress, updated_at=now))
    elif replay.dry_run or not progress.windows_differing:
        await step.save(_ended(replay, ReplayState.DONE, progress, now))
    else:
        ready = _in_phase(replay, ReplayPhase.SWAPPING, progress, now)
        await step.save(replace(ready, state=ReplayState.READY))
        await step.leave()


async def _swap(step: ReplayStep, now: datetime) -> None:
    replay = step.replay
    meters = await step.meters(replay.scope)
    portion = await step.swap(meters, _window_position(replay), now)
    if portion.position is None:
        await step.save(_ended(replay, ReplayState.DONE, replay.progress, now))
        return
    progress = replace(replay.progress, windows_swapped=replay.progress.windows_swapped + portion.windows)
    await step.save(replace(replay, position=portion.position, progress=progress, updated_at=now))


def _in_phase(replay: Replay, phase: ReplayPhase, progress: ReplayProgress, now: datetime) -> Replay:
    return replace(replay, phase=phase, position=[], progress=progress, updated_at=now)


def _ended(replay: Replay, state: ReplayState, progress: ReplayProgress, now: datetime) -> Replay:
    ended = _in_phase(replay, ReplayPhase.ENDED, progress, now)
    return replace(ended, state=state, ended_at=now)


def _log_position(replay: Replay) -> tuple[int, int, int] | None:
    if not replay.position:
        return None
    time_ns, batch_id, ordinal = map(int, replay.position)
    return time_ns, batch_id, ordinal


def _window_position(replay: Replay) -> WindowPosition | None:
    if not replay.position:
        return None
    meter_id, customer_id, start, number = replay.position
    return str(meter_id), str(customer_id), str(start), int(number)
