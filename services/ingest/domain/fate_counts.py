"""How many events met each fate, by tenant, hour of receipt and source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from services.ingest.domain.recording import Fate, RecordingBatch, of_rows

MAX_SOURCES = 1_000
"""Of a tenant in an hour, roughly; further ones are counted together. Producers choose their number."""
OTHER_SOURCES = ""
"""What refused events without a source, and those of further sources count as; nothing else passes the door so."""


class CountKey(NamedTuple):
    """What is counted together; its order is the order in which rows are locked. `hour` is when it begins, in UTC."""

    tenant_id: str
    hour: datetime
    source: str


@dataclass(frozen=True, slots=True)
class FateCounts:
    """Numbers of events. What was sent is their sum; those refused at the door were never accepted."""

    recorded: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0
    rejected_at_door: int = 0


def count_fates(recording: Sequence[RecordingBatch]) -> list[tuple[CountKey, FateCounts]]:
    """The fates of newly recorded batches and what the door refused of them, ordered."""
    found: dict[str, Counter[tuple[str, datetime, str]]] = {name: Counter() for name in FateCounts.__slots__}
    for item in recording:
        batch, sources = item.batch, item.batch.events.sources
        hour = batch.received_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)

        def add(fate: str, counted: Counter[str], tenant_id: str = batch.tenant_id, at: datetime = hour) -> None:
            for source, count in counted.items():
                found[fate][tenant_id, at, source] += count

        add(Fate.RECORDED, Counter(of_rows(sources, list(item.recorded))))
        for fate in (Fate.DUPLICATE, Fate.CONFLICT, Fate.REJECTED):
            add(fate, Counter(sources[other.ordinal] for other in item.exceptions if other.fate is fate))
        add("rejected_at_door", Counter(refused.source for refused in batch.rejected))
    keys = sorted(set().union(*found.values()))
    return [(CountKey(*key), FateCounts(**{fate: found[fate][key] for fate in found})) for key in keys]
