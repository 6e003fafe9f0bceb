"""What a spool holds, and what it has done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from steelyard.spool.file import SpoolFile
from steelyard.spool.schema import State


@dataclass(frozen=True, slots=True)
class Depth:
    """How much there is of something."""

    batches: int = 0
    events: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class SpoolStats:
    """The file as all processes see it; counters are in events and began when the file was made."""

    pending: Depth
    """Not sent yet."""
    sent: Depth
    """With the server, not recorded yet as far as is known."""
    parked: Depth
    """Set aside by the server, for people there to look at."""
    dead: Depth
    """Refused by the server, or damaged: set aside here. See dead_letters."""
    oldest_age_s: float
    """Age of the oldest event that is not recorded, dead letters left out; 0 without one."""
    recorded: int
    """Confirmed and deleted."""
    resent: int
    """Sent once more because the queue lost them or took too long."""
    rejected: int
    conflicts: int
    dropped: int
    """Lost, because the spool was full and its policy is to drop the oldest."""
    released: int
    """Deleted unconfirmed for the same reason. The server had them."""

    @property
    def events(self) -> int:
        """Events that are not recorded and still on their way."""
        return self.pending.events + self.sent.events + self.parked.events


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A batch that was set aside, and why. `payload` is a serialised IngestEventsRequest."""

    id: int
    created_at: datetime
    events: int
    refusal: str
    payload: bytes


def read_stats(file: SpoolFile, now_ms: int) -> SpoolStats:
    with file.reading() as connection:
        rows = connection.execute("SELECT state, batches, events, bytes FROM totals").fetchall()
        counters: Mapping[str, int] = dict(connection.execute("SELECT name, value FROM counters").fetchall())
        oldest = [
            row[0]
            for state in (State.PENDING, State.SENT, State.PARKED)
            for row in connection.execute(
                "SELECT created_ms FROM batches WHERE state = ? ORDER BY id LIMIT 1", (state,)
            ).fetchall()
        ]
    depths = {State(state): Depth(batches, events, size) for state, batches, events, size in rows}
    return SpoolStats(
        pending=depths[State.PENDING],
        sent=depths[State.SENT],
        parked=depths[State.PARKED],
        dead=depths[State.DEAD],
        oldest_age_s=max(0.0, (now_ms - min(oldest)) / 1000) if oldest else 0.0,
        recorded=counters.get("recorded", 0),
        resent=counters.get("resent", 0),
        rejected=counters.get("rejected", 0),
        conflicts=counters.get("conflicts", 0),
        dropped=counters.get("dropped", 0),
        released=counters.get("released", 0),
    )


def read_dead_letters(file: SpoolFile, limit: int) -> list[DeadLetter]:
    """The oldest ones first."""
    with file.reading() as connection:
        rows = connection.execute(
            "SELECT id, created_ms, events, refusal, payload FROM batches JOIN payloads USING (id)"
            " WHERE state = ? ORDER BY id LIMIT ?",
            (State.DEAD, limit),
        ).fetchall()
    return [
        DeadLetter(row_id, datetime.fromtimestamp(created_ms / 1000, UTC), events, refusal, bytes(payload))
        for row_id, created_ms, events, refusal, payload in rows
    ]
