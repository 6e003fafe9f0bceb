"""Run the long-lived parts of a process so that it is either whole or gone."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine, Mapping
from functools import partial

_logger = logging.getLogger(__name__)

_EXIT_STUCK = 70  # EX_SOFTWARE of sysexits.h.


class PartEndedError(Exception):
    """A part that should run until the process stops has returned."""


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set; call it inside the running loop."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopping.set)
    return stopping


async def supervise(
    parts: Mapping[str, Coroutine[object, object, None]], stopping: asyncio.Event, *, grace_s: float = 30.0
) -> None:
    """Run named parts until `stopping` is set and all of them have returned.

    Crash-only: when one part raises, or returns before `stopping` is set, the error is logged, `stopping` is set, the
    others are cancelled, and the error is raised for the process to end with. If the parts have not ended `grace_s`
    seconds after that (or after an ordinary stop), the process exits hard: a supervisor can restart a dead process,
    but not one that is half alive.

    :raises ExceptionGroup: with the error of each part that failed
    """
    watchdog = asyncio.create_task(_exit_when_stuck(stopping, grace_s))
    try:
        async with asyncio.TaskGroup() as group:
            for name, part in parts.items():
                task = group.create_task(_run(name, part, stopping), name=name)
                # A sibling may fail before this task's first step; then nothing else would close its coroutine.
                task.add_done_callback(partial(_close, part))
    finally:
        watchdog.cancel()


async def _run(name: str, part: Coroutine[object, object, None], stopping: asyncio.Event) -> None:
    try:
        await part
        if not stopping.is_set():
            raise PartEndedError(f"{name} ended while the process was running")
    except Exception:
        _logger.critical("%s failed; the process stops", name, exc_info=True)
        stopping.set()
        raise


def _close(part: Coroutine[object, object, None], _task: asyncio.Task[None]) -> None:
    part.close()


async def _exit_when_stuck(stopping: asyncio.Event, grace_s: float) -> None:
    await stopping.wait()
    await asyncio.sleep(grace_s)
    _logger.critical("parts still run %s s after the stop; exiting hard", grace_s)
    os._exit(_EXIT_STUCK)
