"""How far rating has come, in real time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Watermark:
    """What counts for a tenant: everything acknowledged before `rated_through` has arrived here as charges.

    `rated_through` is None until known; with `holds` (reasons) it does not count for this tenant.
    """

    rated_through: datetime | None
    holds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReceivedWatermark:
    """A watermark as it lies in rating's stream; `holds` are (tenant id, reason).

    It counts once everything before it in the same incarnation of the stream (`stream_epoch`) is acknowledged.
    """

    stream_epoch: datetime
    stream_seq: int
    watermark_at: datetime
    holds: tuple[tuple[str, str], ...]
