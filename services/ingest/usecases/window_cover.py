"""A time in terms of what is stored: whole usage windows, and the rest, which only the log can answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from libs.periods import WINDOW, Period, is_window_aligned, window_start

FIRST_INSTANT = datetime(1970, 1, 1, tzinfo=UTC)
"""The door refuses events from before it, so it is the beginning of time for what is carried over."""


@dataclass(frozen=True, slots=True)
class WindowCover:
    """The windows that start in `windows`, without the one that starts at `cut`, and the `edges` cover a time, each
    instant once."""

    windows: Period | None
    edges: Sequence[Period]
    cut: datetime | None = None


def cover(asked: Period, *, carried: bool = False, by_log: bool = False) -> WindowCover:
    """Cover the time, and with `carried` also all before it, so that no window is on both sides of its start.

    With `by_log` nothing of the time is taken from windows: the answer cuts them.
    """
    if by_log:
        first_cut = window_start(asked.start) if carried else asked.start
        before = Period(FIRST_INSTANT, first_cut) if carried and first_cut > FIRST_INSTANT else None
        return WindowCover(before, [Period(first_cut, asked.end)])
    first = FIRST_INSTANT if carried else asked.start
    first_whole = first if is_window_aligned(first) else window_start(first) + WINDOW
    last_whole = window_start(asked.end)
    if first_whole > last_whole:  # All of it lies inside one window.
        return WindowCover(None, [asked])
    parts = [(first, first_whole), (last_whole, asked.end)]
    cut = None
    if carried and not is_window_aligned(asked.start) and window_start(asked.start) < last_whole:
        cut = window_start(asked.start)
        parts.append((cut, cut + WINDOW))
    return WindowCover(
        windows=Period(first_whole, last_whole) if first_whole < last_whole else None,
        edges=[Period(start, end) for start, end in parts if start < end],
        cut=cut,
    )
