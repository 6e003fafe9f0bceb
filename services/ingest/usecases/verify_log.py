"""Verify a tenant's log: recompute it from stored columns, and name the first thing that was altered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from libs.errors import InvalidInput
from services.ingest.domain.batch_digest import LoggedEvent, batch_digest
from services.ingest.domain.log_chain import HOUR, BatchEntry, ChainHead, HourEntry, entry_hash
from services.ingest.usecases.log_ports import Link, LogStore

_EVENTS_AT_ONCE = 5_000


class Altered(StrEnum):
    """What was altered."""

    CHAIN = "chain"
    BATCH = "batch"
    SEAL = "seal"
    WINDOW = "window"
    LOG = "log"


@dataclass(frozen=True, slots=True)
class Difference:
    """The first difference: `name` is the batch, seal, hour or position; `description` is for people."""

    what: Altered
    name: str
    description: str


class Stage(StrEnum):
    """What is verified, in this order; only the chain unless all of it was asked for."""

    CHAIN = "chain"
    HOURS = "hours"
    TOTALS = "totals"


@dataclass(frozen=True, slots=True)
class Reached:
    """Where a verification goes on: behind `head`, or with the first sealed hour from `hour` on."""

    stage: Stage
    head: ChainHead
    hour: datetime | None = None


@dataclass(frozen=True, slots=True)
class LogRange:
    """Which positions are verified, both ends included; `through` 0 is the end. A kept head has to be in the chain."""

    first: int = 1
    through: int = 0
    kept: ChainHead | None = None
    links_at_once: int = 200

    def check(self) -> None:
        """
        :raises InvalidInput: naming what is wrong
        """
        if self.first < 1:
            raise InvalidInput.of("from_position", "OUT_OF_RANGE", "must be at least 1")
        if self.through and self.through < self.first:
            raise InvalidInput.of("to_position", "BEFORE_START", "must not be before from_position")


@dataclass(frozen=True, slots=True)
class Progress:
    """What a step verified; `next` is None when nothing is left or a difference was found."""

    links: int = 0
    events: int = 0
    hours: int = 0
    unsettled_hours: int = 0
    difference: Difference | None = None
    next: Reached | None = None


class VerifyLog:
    """Verifies in steps of bounded size, each of which says where the next one begins."""

    def __init__(self, store: LogStore) -> None:
        self._store = store

    async def __call__(self, tenant_id: str, asked: LogRange, reached: Reached | None) -> Progress:
        """Verify the next part.

        :raises InvalidInput: if the range is none
        """
        if reached is None:
            asked.check()
            return await self._begin(tenant_id, asked)
        if reached.stage is Stage.CHAIN:
            return await self._chain(tenant_id, asked, reached.head)
        if reached.stage is Stage.HOURS:
            return await self._hours(tenant_id, reached)
        return await self._totals(tenant_id)

    async def _begin(self, tenant_id: str, asked: LogRange) -> Progress:
        kept = asked.kept
        if kept is not None:
            stored = await self._stored_hash(tenant_id, kept.position)
            if stored != kept.chain_hash:
                said = "the chain ends before it" if stored is None else "the chain has another hash there"
                return Progress(difference=Difference(Altered.CHAIN, f"position {kept.position}", said))
        before = await self._stored_hash(tenant_id, asked.first - 1)
        if before is None:
            raise InvalidInput.of("from_position", "BEHIND_END", "the chain ends before it")
        return await self._chain(tenant_id, asked, ChainHead(asked.first - 1, before))

    async def _stored_hash(self, tenant_id: str, position: int) -> bytes | None:
        start = ChainHead.start(tenant_id)
        return start.chain_hash if position == start.position else await self._store.chain_hash(tenant_id, position)

    async def _chain(self, tenant_id: str, asked: LogRange, head: ChainHead) -> Progress:
        through = asked.through or (await self._store.head(tenant_id)).head.position
        links = await self._store.links(tenant_id, head.position, through, asked.links_at_once)
        checked, events = 0, 0
        for part in _portions(links):
            logged = await self._store.events(tenant_id, [entry for link in part for entry in _batches(link)])
            for link in part:
                found = _altered_link(link, head)
                for entry in () if found else _batches(link):
                    events += len(logged[entry.batch_id])
                    found = _altered_events(entry, logged[entry.batch_id])
                if found is not None:
                    return Progress(checked, events, difference=found)
                head, checked = ChainHead(link.position, link.chain_hash), checked + 1
        if not checked and head.position < through:
            return Progress(difference=_broken(head.position + 1, "it is missing"))
        return Progress(checked, events, next=_behind(asked, head, through))

    async def _hours(self, tenant_id: str, reached: Reached) -> Progress:
        states = await self._store.hours(tenant_id, reached.hour)
        for state in states:
            if not state.agrees and not state.unsettled:
                at = "" if state.differs_at is None else " of meter {} and customer {}".format(*state.differs_at)
                said = f"the windows{at} are not those of seal version {state.version}"
                return Progress(difference=Difference(Altered.WINDOW, _hour_name(state.hour_start), said))
        unsettled = sum(state.unsettled and not state.agrees for state in states)
        if not states:
            return Progress(next=Reached(Stage.TOTALS, reached.head))
        following = Reached(Stage.HOURS, reached.head, states[-1].hour_start + HOUR)
        return Progress(hours=len(states) - unsettled, unsettled_hours=unsettled, next=following)

    async def _totals(self, tenant_id: str) -> Progress:
        totals = await self._store.totals(tenant_id)
        found = None
        if totals.events != totals.recorded:
            found = f"it holds {totals.events} events, its batches say {totals.recorded}"
        elif not totals.batches == totals.results == totals.linked + totals.queued:
            found = (
                f"there are {totals.batches} batches and {totals.results} results, "
                f"{totals.linked} linked and {totals.queued} waiting"
            )
        return Progress(difference=None if found is None else Difference(Altered.LOG, "the log as a whole", found))


def _behind(asked: LogRange, head: ChainHead, through: int) -> Reached | None:
    if head.position < through:
        return Reached(Stage.CHAIN, head)
    return Reached(Stage.HOURS, head) if asked.first == 1 and not asked.through else None


def _batches(link: Link) -> tuple[BatchEntry, ...]:
    return (link.entry,) if isinstance(link.entry, BatchEntry) else ()


def _portions(links: Iterable[Link]) -> Iterator[list[Link]]:
    """Links whose batches together have a bounded number of events."""
    part: list[Link] = []
    events = 0
    for link in links:
        count = sum(entry.event_count for entry in _batches(link))
        if part and events + count > _EVENTS_AT_ONCE:
            yield part
            part, events = [], 0
        part.append(link)
        events += count
    if part:
        yield part


def _altered_link(link: Link, head: ChainHead) -> Difference | None:
    """What is wrong with a link behind `head`, or with the rows of the batch or seal that it covers."""
    if link.position != head.position + 1:
        return _broken(head.position + 1, "it is missing")
    what = Altered.SEAL if link.named.startswith("seal") else Altered.BATCH
    name = f"{link.named} at position {link.position}"
    if link.entry is None:
        return Difference(what, name, "it is gone")
    if entry_hash(link.entry.content()) != link.entry_hash:
        return Difference(what, name, "its columns are not those that were linked")
    if head.linked(link.entry_hash, link.linked_at).chain_hash != link.chain_hash:
        return _broken(link.position, "its hash does not follow from the one before")
    if isinstance(link.entry, HourEntry):
        if link.sums_digest != link.entry.windows_digest:
            return Difference(what, name, "its sums are not those that were sealed")
        if link.seal_position != link.position:
            return Difference(what, name, f"it says that it is at position {link.seal_position}")
    return None


def _altered_events(entry: BatchEntry, events: Sequence[LoggedEvent]) -> Difference | None:
    name = f"batch {entry.batch_id} ({entry.acceptor_epoch} number {entry.batch_number})"
    recorded = entry.fates[0]
    if len(events) != recorded:
        count = f"more than {recorded}" if len(events) > recorded else str(len(events))
        return Difference(Altered.BATCH, name, f"it has {count} events, {recorded} were recorded")
    if batch_digest(entry.digest_version, events) != entry.digest:
        return Difference(Altered.BATCH, name, "its events are not those that were recorded")
    return None


def _broken(position: int, description: str) -> Difference:
    return Difference(Altered.CHAIN, f"position {position}", description)


def _hour_name(hour: datetime) -> str:
    return f"hour {hour.astimezone(UTC):%Y-%m-%dT%H:%MZ}"
