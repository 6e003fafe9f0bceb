"""The standing loop of every relay."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from libs.clock import monotonic_s
from libs.database import is_outage

_logger = logging.getLogger(__name__)

_SHORTEST_REST_S = 0.05
_LONGEST_REST_S = 1.0


class Pace(Protocol):
    """How long to rest after a step that found work. What can be done together piles up meanwhile, so that a step
    costs less per item."""

    def rest_s(self, took_s: float) -> float:
        """Return the rest after a step of a duration."""
        ...


@dataclass(frozen=True, slots=True)
class StepPace:
    """Rests so many times as long as the step took, within bounds: longer under load."""

    shortest_s: float
    longest_s: float
    factor: float = 1.0

    def rest_s(self, took_s: float) -> float:
        return min(max(took_s * self.factor, self.shortest_s), self.longest_s)


NO_REST = StepPace(0.0, 0.0)


async def repeat(
    name: str,
    step: Callable[[], Awaitable[bool]],
    *,
    wake: asyncio.Event,
    stopping: asyncio.Event,
    pace: Pace = NO_REST,
) -> None:
    """Call `step` until `stopping` is set, at its `pace` while it finds work (returns True).

    Otherwise it rests 50 ms, doubling to 1 s; `wake` ends such a rest. An outage of PostgreSQL is logged and waited
    out, since whatever was claimed is claimed again when its lease ends; any other error is raised.
    """
    rest_s = _SHORTEST_REST_S
    while not stopping.is_set():
        wake.clear()  # Before the step, so that a wake in its middle is not lost.
        began_s = monotonic_s()
        try:
            found_work = await step()
        except Exception as error:
            if not is_outage(error):
                raise
            _logger.warning("%s: PostgreSQL failed; trying again", name, exc_info=True)
            found_work, rest_s = False, _LONGEST_REST_S
        if found_work:
            await _set_within(pace.rest_s(monotonic_s() - began_s), stopping)
            rest_s = _SHORTEST_REST_S
        elif await _set_within(rest_s, wake, stopping):
            rest_s = _SHORTEST_REST_S
        else:
            rest_s = min(rest_s * 2, _LONGEST_REST_S)


async def _set_within(timeout_s: float, *events: asyncio.Event) -> bool:
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        done, _ = await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        for wait in waits:
            wait.cancel()
