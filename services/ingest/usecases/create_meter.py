"""Add a meter."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from libs.clock import Clock
from libs.errors import InvalidInput
from libs.ids import check_request_id
from services.ingest.domain.meter import Meter, meter_violations


@dataclass(frozen=True, slots=True)
class CreateMeterRequest:
    """A meter as a caller asked for it; `fingerprint` is a digest of the request without its id, `actor` who asks."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    meter: Meter
    actor: str = ""


class MeterStore(Protocol):
    async def create(self, request: CreateMeterRequest) -> Meter:
        """Store the meter and the note that it is to be published, once per request id; return it as stored.

        :raises MeterExists, RequestIdReused, MeterLimit: and nothing is stored
        """

    async def get(self, tenant_id: str, meter_id: str) -> Meter:
        """
        :raises MeterNotFound: if there is no such meter
        """

    async def list(self, tenant_id: str, after: str, limit: int) -> list[Meter]:
        """Return meters by id, those behind `after`."""


class MeterPublication(Protocol):
    async def publish_now(self) -> None:
        """Put noted meters into the directory, or leave them noted for a later try."""


class CreateMeter:
    """Stores a meter and puts it into the directory, where acceptors find it; a crash in between delays only that."""

    def __init__(self, *, meters: MeterStore, publication: MeterPublication, clock: Clock) -> None:
        self._meters = meters
        self._publication = publication
        self._clock = clock

    async def __call__(self, request: CreateMeterRequest) -> Meter:
        """
        :raises InvalidInput: naming everything that is wrong
        :raises MeterExists, RequestIdReused, MeterLimit: and nothing is stored
        """
        self.check(request)
        created = replace(request.meter, created_at=self._clock())
        stored = await self._meters.create(replace(request, meter=created))
        await self._publication.publish_now()
        return stored

    def check(self, request: CreateMeterRequest) -> None:
        """
        :raises InvalidInput: naming everything that is wrong
        """
        found = [*filter(None, [check_request_id(request.request_id)]), *meter_violations(request.meter)]
        if found:
            raise InvalidInput(found)
