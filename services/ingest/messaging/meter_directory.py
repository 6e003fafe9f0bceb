"""Puts meters into the directory, at once when they are made and later if that failed."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from libs.clock import Clock
from libs.database import is_outage
from libs.errors import ServiceError
from libs.messaging import DirectoryPublisher, directory_subject
from services.ingest.domain.meter import Meter
from services.ingest.wire.meters import meter_to_pb
from steelyard.ingest.v1 import directory_pb2

_logger = logging.getLogger(__name__)

_EVERY_S = 1.0
_AT_ONCE = 4
"""So many connections may be waiting for NATS with their notes."""


class MeterPublications(Protocol):
    def locked(self, now: datetime) -> AbstractAsyncContextManager[list[tuple[str, Meter]]]: ...

    async def all_due(self, now: datetime) -> None: ...


class MeterDirectory:
    """MeterPublication over JetStream."""

    def __init__(self, publications: MeterPublications, publisher: DirectoryPublisher, clock: Clock) -> None:
        self._publications = publications
        self._publisher = publisher
        self._clock = clock
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    async def publish_now(self) -> None:
        try:
            while await self._publish_some():
                pass
        except ServiceError as error:
            _logger.warning("meters are published later: %s", error)

    async def _publish_some(self) -> bool:
        """Publish notes that are due; return whether there may be more."""
        async with self._at_once, self._publications.locked(self._clock()) as meters:
            # All of them end while their notes are locked, also those that fail.
            puts = (self._put(tenant_id, meter) for tenant_id, meter in meters)
            for failed in filter(None, await asyncio.gather(*puts, return_exceptions=True)):
                raise failed
        return bool(meters)

    async def _put(self, tenant_id: str, meter: Meter) -> None:
        entry = directory_pb2.MeterEntry(tenant_id=tenant_id, meter=meter_to_pb(meter))
        subject = directory_subject("meter", tenant_id, meter.meter_id)
        message_id = f"{tenant_id}:meter:{meter.meter_id}:{meter.version}"
        await self._publisher.put(subject, entry.SerializeToString(), message_id)

    async def run(self, stopping: asyncio.Event) -> None:
        """Publish everything once, in case the stream was lost, then what is noted, until `stopping` is set."""
        everything = True
        while not stopping.is_set():
            try:
                if everything:
                    await self._publications.all_due(self._clock())
                    everything = False
                await self.publish_now()
            except Exception as error:
                if not is_outage(error):
                    raise
                _logger.warning("meters wait for PostgreSQL: %r", error)
            try:
                await asyncio.wait_for(stopping.wait(), _EVERY_S)
            except TimeoutError:
                continue
