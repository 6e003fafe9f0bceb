"""How far the sending of a file is, for people: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from libs.cli.output import ERRORS, note

_LINE_EVERY_S = 30


class SendingProgress:
    """Shows events, their rate and, if the size of the file is known, how much of it is answered and what is left."""

    def __init__(self) -> None:
        columns = (
            TextColumn("sending"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[events]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=ERRORS, disable=not ERRORS.is_terminal)
        self._task = self._bar.add_task("send", total=None, events="0 events")
        self._began_at = self._line_at = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, events: int, reached: int, size: int | None) -> None:
        """
        :param events: answered since the beginning of this command
        :param reached: how much of `size` is answered; size None: it is not known
        """
        now = time.monotonic()
        text = f"{events:,} events, {events / max(now - self._began_at, 1e-9):,.0f}/s"
        self._bar.update(self._task, completed=reached if size else 0, total=size or None, events=text)
        if not ERRORS.is_terminal and now - self._line_at >= _LINE_EVERY_S:
            self._line_at = now
            note(f"{text}, {reached / size:.0%} of the file" if size else text)
