"""Distinct texts, exactly; with operations, those whose latest operation adds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import TypeVar

from services.ingest.domain.aggregations.columns import EventColumns, Operation

K = TypeVar("K", bound=Hashable)


def unique_count(events: EventColumns) -> int:
    """How many distinct texts there are at the end of the events."""
    if not events.operations:
        return len(set(events.texts))
    return len(_present(events.texts, events))


def unique_counts(indexes: Iterable[int], events: EventColumns) -> dict[int, int]:
    """`unique_count` of the events with each index; an index whose texts are all removed counts 0."""
    indexes = list(indexes)
    found = dict.fromkeys(indexes, 0)
    pairs = list(zip(indexes, events.texts, strict=True))
    present = _present(pairs, events) if events.operations else set(pairs)
    return found | Counter(index for index, _ in present)


def _present(keys: Iterable[K], events: EventColumns) -> set[K]:
    """The keys whose latest operation, by time and then position, is to add."""
    latest: dict[K, tuple[int, int, bool]] = {}
    adds = [operation is Operation.ADD for operation in events.operations]
    for key, moment in zip(keys, zip(events.times_ns, events.positions, adds, strict=True), strict=True):
        known = latest.get(key)
        if known is None or moment > known:
            latest[key] = moment
    return {key for key, (_, _, added) in latest.items() if added}
