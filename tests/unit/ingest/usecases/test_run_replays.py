"""Replays work for their share of the time, and one that fails does not stop the others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from services.ingest.domain.replays import (
    Replay,
    ReplayMode,
    ReplayPhase,
    ReplayProgress,
    ReplayScope,
    ReplayState,
)
from services.ingest.usecases.replay_ports import QueuedReplay, ReplayChanged, ReplayStep
from services.ingest.usecases.run_replays import RunReplays

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
ENDED = Replay(
    "replay-1",
    ReplayMode.REBUILD,
    False,
    ReplayScope(),
    ReplayState.CANCELLED,
    ReplayPhase.ENDED,
    (),
    ReplayProgress(),
    "",
    "key-1",
    "",
    NOON,
    NOON,
    NOON,
)


class Time:
    """Real time and elapsed seconds, moved by whoever works."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.elapsed_s)


class Step:
    """Forgets for a while."""

    replay = ENDED

    def __init__(self, time: Time, takes_s: float, raises: Exception | None) -> None:
        self._time = time
        self._takes_s = takes_s
        self._raises = raises
        self.rests_until: datetime | None = None

    async def forget(self) -> bool:
        self._time.elapsed_s += self._takes_s
        if self._raises:
            raise self._raises
        return True

    async def rest(self, until: datetime) -> None:
        self.rests_until = until


class Queue:
    def __init__(self, *steps: Step | None) -> None:
        self.steps = steps
        self.failures: list[tuple[str, str, datetime]] = []

    async def due(self, now: datetime) -> Sequence[QueuedReplay]:
        return [("acme", str(number)) for number in range(len(self.steps))]

    @asynccontextmanager
    async def step(self, queued: QueuedReplay) -> AsyncIterator[ReplayStep | None]:
        yield cast("ReplayStep | None", self.steps[int(queued[1])])

    async def note_failure(
        self, queued: QueuedReplay, failure: str, now: datetime, again_at: datetime, max_attempts: int
    ) -> None:
        self.failures.append((queued[1], failure, again_at))


def running(time: Time, queue: Queue, share: float) -> RunReplays:
    return RunReplays(queue, time.now, share, elapsed_s=lambda: time.elapsed_s)


class TestShare:
    @pytest.mark.parametrize(("share", "rest_s"), [(1.0, 0), (0.5, 2), (0.25, 6), (0.01, 60)])
    async def test_a_replay_rests_for_the_remainder_and_a_minute_at_most(self, share: float, rest_s: int) -> None:
        time = Time()
        step = Step(time, 2.0, None)

        assert await running(time, Queue(step), share)()

        # From the end of the step: other workers leave it alone as long.
        assert step.rests_until == NOON + timedelta(seconds=2 + rest_s)

    @pytest.mark.parametrize("share", [0, -0.1, 1.01])
    def test_is_part_of_the_time(self, share: float) -> None:
        with pytest.raises(ValueError, match="share"):
            running(Time(), Queue(), share)


class TestSteps:
    async def test_of_a_replay_that_another_worker_has_are_not_taken(self) -> None:
        assert not await running(Time(), Queue(None), 1.0)()

    async def test_that_fail_are_noted_and_the_next_replay_goes_on(self) -> None:
        time = Time()
        failing, other = Step(time, 0.0, ValueError("broken")), Step(time, 0.0, None)
        queue = Queue(failing, other)

        assert await running(time, queue, 1.0)()

        assert queue.failures == [("0", "ValueError('broken')", NOON + timedelta(seconds=2))]
        assert other.rests_until == NOON

    async def test_overtaken_by_a_decision_are_no_failures(self) -> None:
        time = Time()
        queue = Queue(Step(time, 0.0, ReplayChanged("replay-1")))

        assert await running(time, queue, 1.0)()
        assert queue.failures == []
