"""Puts meters into the directory, at once when they are made and later if that failed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
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


class MeterPublications(Protocol):
    async def claim(self, now: datetime) -> list[tuple[str, Meter]]: ...

    async def done(self, published: Sequence[tuple[str, Meter]]) -> None: ...

    async def all_due(self, now: datetime) -> None: ...


class MeterDirectory:
    """MeterPublication over JetStream."""

    def __init__(self, publications: MeterPublications, publisher: DirectoryPublisher, clock: Clock) -> None:
        self._publications = publications
        self._publisher = publisher
        self._clock = clock

    async def publish_now(self) -> None:
        try:
            while claimed := await self._publications.claim(self._clock()):
                await asyncio.gather(*(self._put(tenant_id, meter) for tenant_id, meter in claimed))
                await self._publications.done(claimed)
        except ServiceError as error:
            _logger.warning("meters are published later: %s", error)

    async def _put(self, tenant_id: str, meter: Meter) -> None:
        entry = directory_pb2.MeterEntry(tenant_id=tenant_id, meter=meter_to_pb(meter))
        subject = directory_subject("meter", tenant_id, meter.meter_id)
        await self._publisher.put(subject, entry.SerializeToString(), f"{tenant_id}:meter:{meter.meter_id}")

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
