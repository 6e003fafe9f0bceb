"""Change what people read about a meter, or archive it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from libs.clock import Clock
from libs.errors import InvalidInput, Violation
from libs.ids import check_request_id, check_resource_id
from services.ingest.domain.meter import Meter
from services.ingest.domain.meter_versions import MeterVersion, presentation_violations
from services.ingest.usecases.create_meter import MeterPublication


@dataclass(frozen=True, slots=True)
class MeterChange:
    """Who asks for a change of which meter; `fingerprint` is a digest of the request without its id."""

    tenant_id: str
    request_id: str
    fingerprint: bytes
    actor: str
    meter_id: str


class MeterChanges(Protocol):
    async def update(self, change: MeterChange, wanted: Meter, expected_version: int, now: datetime) -> Meter:
        """Add a version, if the texts differ, and the note that it is to be published; once per request id.

        :raises MeterNotFound, RequestIdReused, MeterVersionChanged, MeterDefinitionFixed, MeterVersionLimit: and
            nothing is stored
        """

    async def archive(self, change: MeterChange, now: datetime) -> Meter:
        """Add a version that is archived, at `now` or later: behind everything that was recorded. Once per request id.

        :raises MeterNotFound, RequestIdReused, MeterArchived: and nothing is stored
        """

    async def versions(self, tenant_id: str, meter_id: str, before: int, limit: int) -> list[MeterVersion]:
        """Return versions below `before`, the newest first.

        :raises MeterNotFound: if there is no such meter
        """


class ChangeMeter:
    """Makes versions of meters and has them put into the directory; a crash in between delays only that."""

    def __init__(self, *, changes: MeterChanges, publication: MeterPublication, clock: Clock) -> None:
        self._changes = changes
        self._publication = publication
        self._clock = clock

    async def update(self, change: MeterChange, wanted: Meter, expected_version: int = 0) -> Meter:
        """Return the meter as it was after the first call with this request id; see MeterChanges.update.

        :raises InvalidInput: naming everything that is wrong
        """
        violations = presentation_violations(wanted.display_name, wanted.description)
        if expected_version < 0:
            violations.append(Violation("expected_version", "NEGATIVE", "must be a version, or 0 for any"))
        _check(change, "meter.meter_id", violations)
        updated = await self._changes.update(change, wanted, expected_version, self._clock())
        await self._publication.publish_now()
        return updated

    async def archive(self, change: MeterChange) -> Meter:
        """Return the meter as it was after the first call with this request id; see MeterChanges.archive.

        :raises InvalidInput: naming everything that is wrong
        """
        _check(change, "meter_id", [])
        archived = await self._changes.archive(change, self._clock())
        await self._publication.publish_now()
        return archived


def _check(change: MeterChange, id_field: str, violations: Sequence[Violation]) -> None:
    checks = [check_request_id(change.request_id), check_resource_id(change.meter_id, id_field)]
    found = [*filter(None, checks), *violations]
    if found:
        raise InvalidInput(found)
