"""What spools report through OpenTelemetry. Gauges are read from the file when they are asked for."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from steelyard.spool.errors import SpoolError
from steelyard.spool.stats import SpoolStats

if TYPE_CHECKING:
    from steelyard.spool.spool import Spool

_METER = metrics.get_meter("steelyard")
_SPOOLS: weakref.WeakSet[Spool] = weakref.WeakSet()
_UNIT = "{event}"

_COUNTERS = {
    name: _METER.create_counter(f"steelyard.spool.{name}", unit=_UNIT, description=description)
    for name, description in {
        "recorded": "Confirmed by the server and deleted.",
        "resent": "Sent once more because the queue lost them or took too long.",
        "rejected": "Refused by the server, one by one.",
        "conflicts": "Sent under the id of another event.",
        "dropped": "Lost because the spool was full.",
        "released": "Deleted before they were confirmed because the spool was full.",
        "refused": "Set aside, because the server refused their batch as a whole.",
    }.items()
}


def count(path: str, added: Mapping[str, int]) -> None:
    """Raise counters of this process."""
    for name, value in added.items():
        if value:
            _COUNTERS[name].add(value, {"spool": path})


def observe(spool: Spool) -> None:
    """Report this spool's gauges as long as it exists."""
    _SPOOLS.add(spool)


def forget(spool: Spool) -> None:
    """Report nothing more about a spool."""
    _SPOOLS.discard(spool)


def _gauge(name: str, unit: str, description: str, read: Callable[[SpoolStats], Mapping[str, float]]) -> None:
    def callback(_: CallbackOptions) -> Iterable[Observation]:
        for spool in list(_SPOOLS):
            try:
                values = read(spool.stats())
            except SpoolError:  # A file that cannot be read has no depth; `record` says why.
                continue
            for state, value in values.items():
                yield Observation(value, {"spool": spool.path} | ({"state": state} if state else {}))

    _METER.create_observable_gauge(name, [callback], unit=unit, description=description)


_gauge(
    "steelyard.spool.events",
    _UNIT,
    "Events in the spool, by state.",
    lambda stats: {state: getattr(stats, state).events for state in ("pending", "sent", "parked", "dead")},
)
_gauge(
    "steelyard.spool.size",
    "By",
    "Bytes in the spool, by state.",
    lambda stats: {state: getattr(stats, state).bytes for state in ("pending", "sent", "parked", "dead")},
)
_gauge(
    "steelyard.spool.oldest_age", "s", "Age of the oldest unconfirmed event.", lambda stats: {"": stats.oldest_age_s}
)
