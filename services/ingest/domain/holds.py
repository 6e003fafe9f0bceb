"""What keeps invoices from being issued, and what people decide about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

EVERYBODY = "-"
"""Stands for the tenant of what holds all tenants, and of messages of which nobody can tell whose they are."""

_MAX_NUMBER = (1 << 63) - 1


class HoldKind(StrEnum):
    """In the order in which holds are listed."""

    QUEUE_LOSS = "loss"
    MISSING_BATCH = "missing"
    PARKED_MESSAGE = "parked"


@dataclass(frozen=True, slots=True)
class HoldKey:
    """Which hold. `name` and `number` are the acceptor epoch and number of a missing batch; the epoch of the stream in
    microseconds since 1970 and the sequence at which it was cut; or the id of a parked message, and 0."""

    kind: HoldKind
    tenant_id: str
    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.tenant_id}:{self.number}:{self.name}"

    @classmethod
    def parse(cls, text: str) -> HoldKey | None:
        """Return what str() made the text from, None if it made no such text."""
        kind, *rest = text.split(":", 3)
        if kind not in [known.value for known in HoldKind] or len(rest) != 3:
            return None
        tenant_id, digits, name = rest
        number = int(digits) if len(digits) < 20 and digits.isdecimal() else -1
        if not 0 <= number <= _MAX_NUMBER or (kind == HoldKind.QUEUE_LOSS and not _is_number(name)):
            return None
        if kind == HoldKind.PARKED_MESSAGE and number:
            return None
        key = cls(HoldKind(kind), tenant_id, name, number)
        return key if tenant_id and name and "," not in tenant_id and str(key) == text else None


@dataclass(frozen=True, slots=True)
class OpenHold:
    """A hold that nobody has resolved; `description` is for people."""

    key: HoldKey
    description: str
    noticed_at: datetime


@dataclass(frozen=True, slots=True)
class HoldResolution:
    """A decision about a hold, in real time."""

    hold_id: str
    tenant_id: str
    reason: str
    actor: str
    resolved_at: datetime


def _is_number(text: str) -> bool:
    """As str() writes one: a hold has one id."""
    is_canonical = text.isascii() and text.isdecimal() and (text == "0" or text[0] != "0")
    return is_canonical and int(text[:20]) <= _MAX_NUMBER
