"""The hash chain over a tenant's log: what its entries are, and how they are linked.

Entries are canonical JSON arrays whose first items say what they are, hashed by SHA-256. Customers keep hashes of the
chain, so the forms never change; a new form has a new name. Instants are microseconds since 1970, hashes hex.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson

HOUR = timedelta(hours=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

ExceptionRow = tuple[int, str, str, str, str, str, str, str, str]
"""Ordinal, verdict, source, event id, event type, customer, field, reason, description."""


@dataclass(frozen=True, slots=True)
class BatchEntry:
    """What the chain holds of a batch.

    `totals` are the acceptor's own counts, None from old code; `fates` recorded, duplicate, conflict, rejected;
    `oldest_ns` the earliest event time recorded, None if nothing was or from old code.
    """

    tenant_id: str
    batch_id: int
    acceptor_epoch: str
    batch_number: int
    received_at: datetime
    accepted_at: datetime
    event_count: int
    rejected_count: int
    totals: tuple[int | None, int | None]
    fates: tuple[int, int, int, int]
    duplicate_ordinals: Sequence[int]
    oldest_ns: int | None
    digest_version: int
    digest: bytes
    exceptions: Sequence[ExceptionRow]

    def content(self) -> bytes:
        """Its canonical form; `exceptions` come by ordinal and stand in it as one hash."""
        return orjson.dumps(
            (
                "steelyard.batch.1",
                self.tenant_id,
                self.batch_id,
                self.acceptor_epoch,
                self.batch_number,
                microseconds(self.received_at),
                microseconds(self.accepted_at),
                self.event_count,
                self.rejected_count,
                self.totals,
                self.fates,
                self.duplicate_ordinals,
                self.oldest_ns,
                _sha256(orjson.dumps(self.exceptions)).hex(),
                self.digest_version,
                self.digest.hex(),
            )
        )


@dataclass(frozen=True, slots=True)
class HourEntry:
    """What the chain holds of an hour's seal; `windows_digest` covers the sums and digests per meter and customer."""

    tenant_id: str
    hour_start: datetime
    version: int
    cause: str
    event_count: int
    window_count: int
    windows_digest: bytes
    sealed_at: datetime

    def content(self) -> bytes:
        """Its canonical form."""
        return orjson.dumps(
            (
                "steelyard.hour.1",
                self.tenant_id,
                microseconds(self.hour_start),
                self.version,
                self.cause,
                self.event_count,
                self.window_count,
                self.windows_digest.hex(),
                microseconds(self.sealed_at),
            )
        )


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The end of a chain: how many entries it has, and their hash."""

    position: int
    chain_hash: bytes

    @classmethod
    def start(cls, tenant_id: str) -> ChainHead:
        """The chain without entries, of each tenant another."""
        return cls(0, _sha256(orjson.dumps(("steelyard.log.1", tenant_id))))

    def linked(self, entry_hash: bytes, linked_at: datetime) -> ChainHead:
        """The chain with one entry more."""
        position = self.position + 1
        content = orjson.dumps((self.chain_hash.hex(), position, microseconds(linked_at), entry_hash.hex()))
        return ChainHead(position, _sha256(content))


def entry_hash(content: bytes) -> bytes:
    return _sha256(content)


def microseconds(at: datetime) -> int:
    """Since 1970."""
    return (at - _EPOCH) // _MICROSECOND


def hour_of(at: datetime) -> datetime:
    """The start of its hour, UTC."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
