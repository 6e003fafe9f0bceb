"""Proofs that events are in the log, for their producers to keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.ingest.domain.batch_digest import MERKLE, LoggedEvent, leaves_of
from services.ingest.domain.event_key import EventKey
from services.ingest.domain.log_chain import BatchEntry, ChainHead, entry_hash
from services.ingest.domain.merkle import audit_path, root
from services.ingest.usecases.log_ports import EventPlace, Link, LogStore

_EVENTS_AT_ONCE = 5_000


class NoReceipt(StrEnum):
    """Why there is none."""

    NOT_RECORDED = "NOT_RECORDED"
    UNSEALED = "UNSEALED"
    NO_PROOF = "NO_PROOF"
    ALTERED = "ALTERED"


@dataclass(frozen=True, slots=True)
class LogReceipt:
    """An event's leaf with its path to the root of its batch, and the batch's entry with its place in the chain."""

    leaf: bytes
    leaf_index: int
    tree_size: int
    path: Sequence[bytes]
    batch_entry: bytes
    previous_hash: bytes
    place: ChainHead
    linked_at: datetime


class GetReceipts:
    """Makes receipts batch by batch; in memory are the events of some batches at a time."""

    def __init__(self, store: LogStore) -> None:
        self._store = store

    async def __call__(self, tenant_id: str, keys: Sequence[EventKey]) -> list[LogReceipt | NoReceipt]:
        """Return a receipt per key, or why there is none, in order."""
        places = await self._store.places(tenant_id, keys)
        wanted: dict[int, list[EventPlace]] = {}
        for place in places:
            if place is not None and place.position is not None:
                wanted.setdefault(place.position, []).append(place)
        made: dict[EventKey, LogReceipt | NoReceipt] = {}
        for positions in _portions(wanted):
            links = await self._store.links_at(tenant_id, [at for last in positions for at in (last - 1, last)])
            entries = [entry for last in positions if isinstance(entry := links[last].entry, BatchEntry)]
            logged = await self._store.events(tenant_id, entries) if entries else {}
            for position in positions:
                before = links[position - 1].chain_hash if position > 1 else ChainHead.start(tenant_id).chain_hash
                made |= _receipts(links[position], before, logged, wanted[position])
        return [_answer(key, place, made) for key, place in zip(keys, places, strict=True)]


def _portions(wanted: Mapping[int, Sequence[EventPlace]]) -> Iterator[list[int]]:
    """Positions whose batches together have a bounded number of events."""
    part: list[int] = []
    events = 0
    for position in sorted(wanted):
        count = wanted[position][0].recorded
        if part and events + count > _EVENTS_AT_ONCE:
            yield part
            part, events = [], 0
        part.append(position)
        events += count
    if part:
        yield part


def _receipts(
    link: Link, previous_hash: bytes, logged: Mapping[int, Sequence[LoggedEvent]], wanted: Sequence[EventPlace]
) -> dict[EventKey, LogReceipt | NoReceipt]:
    """The receipts of one batch."""
    entry = link.entry
    if not isinstance(entry, BatchEntry):
        return {place.key: NoReceipt.ALTERED for place in wanted}
    if entry.digest_version != MERKLE:
        return {place.key: NoReceipt.NO_PROOF for place in wanted}
    events, leaves = logged[entry.batch_id], leaves_of(logged[entry.batch_id])
    indexes = {(event.source, event.event_id): index for index, event in enumerate(events)}
    is_whole = entry_hash(entry.content()) == link.entry_hash and root(leaves) == entry.digest
    found: dict[EventKey, LogReceipt | NoReceipt] = {}
    for place in wanted:
        index = indexes.get(place.key)
        if index is None or not is_whole:
            found[place.key] = NoReceipt.ALTERED
            continue
        found[place.key] = LogReceipt(
            leaf=events[index].leaf(),
            leaf_index=index,
            tree_size=len(leaves),
            path=audit_path(leaves, index),
            batch_entry=entry.content(),
            previous_hash=previous_hash,
            place=ChainHead(link.position, link.chain_hash),
            linked_at=link.linked_at,
        )
    return found


def _answer(
    key: EventKey, place: EventPlace | None, made: Mapping[EventKey, LogReceipt | NoReceipt]
) -> LogReceipt | NoReceipt:
    if place is None:
        return NoReceipt.NOT_RECORDED
    return NoReceipt.UNSEALED if place.position is None else made[key]
