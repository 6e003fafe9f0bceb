"""Tenants and their API keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from libs.errors import AlreadyExists, NotFound, Violation
from libs.ids import check_tenant_id, check_text

DEFAULT_INVOICE_GRACE_S = 3_600
DEFAULT_EVENT_PAST_LIMIT_S = 34 * 86_400
DEFAULT_EVENT_FUTURE_LIMIT_S = 3_600
DEFAULT_INVOICE_PREFIX = "INV"
NAME_LENGTH_MAX = 200
_LONGEST_S = 366 * 86_400
_PREFIX = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,14}[A-Za-z0-9])?", re.ASCII)


class TenantNotFound(NotFound):
    reason = "TENANT_NOT_FOUND"


class TenantExists(AlreadyExists):
    reason = "TENANT_EXISTS"


class ApiKeyNotFound(NotFound):
    reason = "API_KEY_NOT_FOUND"


@dataclass(frozen=True, slots=True)
class Tenant:
    """A company that bills its customers; durations in seconds.

    `invoice_grace_s` is how long after a period's end usage may still arrive before its invoice is due to be issued.
    """

    tenant_id: str
    display_name: str
    invoice_grace_s: int
    reject_unknown_customers: bool
    event_past_limit_s: int
    event_future_limit_s: int
    invoice_prefix: str
    created_at: datetime

    def violations(self) -> Iterator[Violation]:
        """What is wrong with it, by the field names of the API."""
        if violation := check_tenant_id(self.tenant_id, "tenant.tenant_id"):
            yield violation
        if violation := check_display_name(self.display_name, "tenant.display_name"):
            yield violation
        for field in ("invoice_grace_s", "event_past_limit_s", "event_future_limit_s"):
            if not 0 <= getattr(self, field) <= _LONGEST_S:
                yield Violation(f"tenant.{field}", "OUT_OF_RANGE", f"must be 0 to {_LONGEST_S} seconds")
        if not _PREFIX.fullmatch(self.invoice_prefix):
            yield Violation("tenant.invoice_prefix", "INVALID_PREFIX", "must be 1-16 of A-Z, a-z, 0-9 and inner '-'")

    def invoice_number(self, value: int) -> str:
        """The printed form of the tenant's `value`-th invoice number, from 1."""
        return f"{self.invoice_prefix}-{value:06d}"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Lets a tenant's programs in. Of the secret only the hash is kept."""

    tenant_id: str
    key_id: str
    display_name: str
    secret_hash: bytes
    created_at: datetime
    revoked_at: datetime | None = None


def check_display_name(name: str, field: str) -> Violation | None:
    """A name for people may be left out."""
    return check_text(name, field, NAME_LENGTH_MAX) if name else None
