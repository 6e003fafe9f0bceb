"""What may change of a meter, and from when on an archived one does not count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime

from libs.errors import Violation
from libs.ids import check_text
from services.ingest.domain.meter import MAX_DESCRIPTION, MAX_NAME, Meter

PRESENTATION = ("display_name", "description")
"""What a new version of a meter may have otherwise. All other fields decide what is measured, or how it reads on an
invoice: another `unit` would call the same number something else."""
_OF_THE_SERVER = ("created_at", "version", "archived_at")
_FIXED = [field.name for field in fields(Meter) if field.name not in (*PRESENTATION, *_OF_THE_SERVER)]

MAX_VERSIONS = 1_000
ARCHIVED_PER_LIVE = 10
"""A tenant may have so many times the limit of live meters, if those that are archived are counted as well."""


@dataclass(frozen=True, slots=True)
class MeterVersion:
    """What a meter was, presented by `actor` (an API key's id) at `created_at` (real time); 1 is the first version."""

    version: int
    display_name: str
    description: str
    archived_at: datetime | None
    created_at: datetime
    actor: str


def fixed_differences(stored: Meter, wanted: Meter) -> list[str]:
    """Return the names of fields that differ and never change."""
    return [name for name in _FIXED if getattr(stored, name) != getattr(wanted, name)]


def presentation_differs(stored: Meter, wanted: Meter) -> bool:
    return any(getattr(stored, name) != getattr(wanted, name) for name in PRESENTATION)


def presentation_violations(display_name: str, description: str, field_name: str = "meter") -> list[Violation]:
    """Return what is wrong with the texts for people; both may be empty."""
    checks = [
        check_text(display_name, f"{field_name}.display_name", MAX_NAME) if display_name else None,
        check_text(description, f"{field_name}.description", MAX_DESCRIPTION) if description else None,
    ]
    return [violation for violation in checks if violation is not None]


def counting(meters: Sequence[Meter], received_at: datetime) -> Sequence[Meter]:
    """Return the meters that count a batch which an acceptor received at this instant (real time).

    Both instants are stored, so whoever records, replays or checks comes to the same. ArchiveMeter chooses its instant
    behind all batches recorded before (see store.meter_changes), so nothing recorded is on the wrong side of it.
    """
    if all(meter.archived_at is None for meter in meters):
        return meters
    return [meter for meter in meters if meter.archived_at is None or received_at < meter.archived_at]
