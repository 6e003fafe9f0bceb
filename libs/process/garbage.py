"""Python's garbage collector, for processes that turn data over in bulk."""

from __future__ import annotations

import gc


def collect_rarely() -> None:
    """Collect after 200,000 new containers instead of 700, and leave alone what exists now: call it before serving.

    Messages and rows come by the thousand as dictionaries and tuples without a cycle: the collector would walk them
    all, again and again, to find nothing.
    """
    gc.freeze()
    gc.set_threshold(200_000, 20, 50)
