"""What questions about the sealed log need of the store; each call is a transaction of one tenant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from services.ingest.domain.batch_digest import LoggedEvent
from services.ingest.domain.event_key import EventKey
from services.ingest.domain.log_chain import BatchEntry, ChainHead, HourEntry


@dataclass(frozen=True, slots=True)
class Link:
    """A row of the chain, and the rows that it covers as they are now: None if they are gone.

    `named` says which batch, or hour and version; `sums_digest` is made from the sums of the seal's version.
    """

    position: int
    named: str
    entry_hash: bytes
    chain_hash: bytes
    linked_at: datetime
    entry: BatchEntry | HourEntry | None
    sums_digest: bytes | None = None
    seal_position: int | None = None


@dataclass(frozen=True, slots=True)
class HourState:
    """An hour's latest seal (version 0 if there is none) against its windows now. `unsettled`: it is known to have
    changed, and its new version is still to be made. `differs_at` names the first meter and customer that differ."""

    hour_start: datetime
    version: int
    agrees: bool
    unsettled: bool = False
    differs_at: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class LogTotals:
    """Rows counted at one instant: of batches and what they became, links and the queue before them, and events."""

    batches: int
    results: int
    linked: int
    queued: int
    events: int
    recorded: int


@dataclass(frozen=True, slots=True)
class LogHead:
    """The chain's end, how far hours are sealed (None: none is), and how many batches wait to be linked."""

    head: ChainHead
    linked_at: datetime | None
    sealed_through: datetime | None
    queued: int


@dataclass(frozen=True, slots=True)
class Seal:
    """An hour's seal and where in the chain it is."""

    entry: HourEntry
    position: int
    chain_hash: bytes


@dataclass(frozen=True, slots=True)
class SealSum:
    """What a seal says of one meter and customer."""

    meter_id: str
    customer_id: str
    event_count: int
    window_count: int
    value_sum: Decimal
    digest: bytes


@dataclass(frozen=True, slots=True)
class EventPlace:
    """Where an event lies, and the link of its batch; None if it is not linked yet."""

    key: EventKey
    batch_id: int
    received_at: datetime
    ordinal: int
    recorded: int
    position: int | None


class LogStore(Protocol):
    async def head(self, tenant_id: str) -> LogHead: ...

    async def chain_hash(self, tenant_id: str, position: int) -> bytes | None:
        """Return the stored hash of the chain at a position; None if it is not that long."""

    async def links(self, tenant_id: str, after: int, through: int, limit: int) -> list[Link]:
        """Return links behind a position up to another one, in order."""

    async def links_at(self, tenant_id: str, positions: Sequence[int]) -> dict[int, Link]:
        """Return links by position."""

    async def events(self, tenant_id: str, batches: Sequence[BatchEntry]) -> Mapping[int, list[LoggedEvent]]:
        """Return the events of batches by batch id, each by ordinal; no more of one batch than may be in it and one."""

    async def hours(self, tenant_id: str, start: datetime | None) -> list[HourState]:
        """Compare the next hours, from `start` on, that are sealed; nothing if there are no more."""

    async def totals(self, tenant_id: str) -> LogTotals: ...

    async def seals(
        self, tenant_id: str, before: tuple[datetime, int] | None, limit: int, *, latest_only: bool
    ) -> list[Seal]:
        """Return seals, latest hour first, behind (hour, version)."""

    async def seal(self, tenant_id: str, hour_start: datetime, version: int) -> Seal | None:
        """Return a version, or the latest one for 0."""

    async def sums(
        self, tenant_id: str, hour_start: datetime, version: int, after: tuple[str, str] | None, limit: int
    ) -> list[SealSum]:
        """Return sums of a seal ordered by meter and customer, behind a pair."""

    async def places(self, tenant_id: str, keys: Sequence[EventKey]) -> list[EventPlace | None]:
        """Return where events lie, in order; None for what is not recorded."""
