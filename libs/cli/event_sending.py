"""Sending a file of usage events, several calls at a time, and saying what became of them."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar

from libs.cli.event_chunks import Chunk
from libs.cli.output import Format, note, print_json, say, table
from steelyard import Ack, Client, DeliveryReport, Verdict

T = TypeVar("T")
_IN_FLIGHT = 8
_PATIENCE_S = 10
_CANCEL_AGAIN_S = 0.1
_PROBLEMS_IN_TABLE = 50

_Sending = asyncio.Task[DeliveryReport]


async def send_file(
    client: Client, chunks: Iterator[Chunk], ack: Ack, answered: Callable[[Chunk, DeliveryReport], None]
) -> None:
    """Send chunks, at most _IN_FLIGHT at a time, and call `answered` for each in the order of the file: what it was
    called for is answered, and so is everything before.

    Leaves at once when it is cancelled.

    :raises SteelyardError: from the first chunk that failed
    """
    in_flight: deque[tuple[Chunk, _Sending]] = deque()
    try:
        await _send_in_order(client, chunks, ack, answered, in_flight)
    finally:
        await _stop([task for _, task in in_flight])


async def _send_in_order(
    client: Client,
    chunks: Iterator[Chunk],
    ack: Ack,
    answered: Callable[[Chunk, DeliveryReport], None],
    in_flight: deque[tuple[Chunk, _Sending]],
) -> None:
    reading: asyncio.Future[Chunk | None] | None = None
    failure: BaseException | None = None
    is_read, is_quiet = False, True
    while True:
        # Read ahead by one chunk. After a failure nothing new is sent, but what was sent before it is waited for.
        if reading is None and not is_read and len(in_flight) < _IN_FLIGHT:
            reading = _on_a_thread(lambda: next(chunks, None))
        waiting: set[asyncio.Future[Chunk | None] | _Sending] = {task for _, task in in_flight}
        if reading is not None:
            waiting.add(reading)
        if not waiting:
            break
        done, _ = await asyncio.wait(waiting, timeout=_PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        if not done and is_quiet and in_flight:
            is_quiet = False
            note("no answer yet, still trying")
        if reading is not None and reading.done():
            failure, chunk, reading = reading.exception(), None if reading.exception() else reading.result(), None
            is_read = is_read or chunk is None
            if chunk is not None and not is_read:
                in_flight.append((chunk, asyncio.create_task(client.send(chunk.events, ack=ack))))
        while in_flight and in_flight[0][1].done():
            is_quiet = False
            answered(in_flight[0][0], in_flight[0][1].result())
            in_flight.popleft()
        is_read = is_read or any(task.done() and task.exception() is not None for _, task in in_flight)
    if failure is not None:
        raise failure


def _on_a_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Do work on a thread that nobody waits for when the program ends: it may be reading a pipe that says nothing."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # Without an error it is a T.

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as caught:
            error = caught
        with suppress(RuntimeError):  # The loop is closed: nobody wants it any more.
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="read events", daemon=True).start()
    return future


async def _stop(tasks: list[_Sending]) -> None:
    """Cancel until it is done: a call that ends at the very moment in which it is cancelled fails instead, which the
    client takes for a reason to try once more. So it was that Ctrl-C was lost while a server was away."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_S)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # Looked at, so that asyncio does not report it.


def print_report(report: DeliveryReport, output: Format) -> None:
    """Print what became of the events that were sent."""
    problems = [
        {"event_id": p.event_id, "fate": p.verdict.name.lower(), "field": p.field, "reason": p.reason}
        | {"description": p.description}
        for p in report.problems
    ]
    shown = len(problems) if output is Format.JSON else min(len(problems), _PROBLEMS_IN_TABLE)
    more = report.counts[Verdict.REJECTED] + report.counts[Verdict.CONFLICT] - shown
    if output is Format.JSON:
        counts = {verdict.name.lower(): report.counts[verdict] for verdict in Verdict}
        print_json({"counts": counts, "problems": problems, "more_problems": more})
        return
    say(", ".join(f"{count} {verdict.name.lower()}" for verdict, count in report.counts.items()) or "no events")
    if problems:
        table(("ID", "FATE", "FIELD", "REASON", "DESCRIPTION"), (problem.values() for problem in problems[:shown]))
    if more:
        say(f"and {more:,} more: `steelyard events exceptions`")
