"""The digest that a recording transaction keeps of each batch's recorded events.

The forms are stored, in digests that customers keep: they never change. A new one is a new version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from services.ingest.domain.merkle import leaf_hash, root
from services.ingest.domain.usage_batch import payload_hash

FLAT, MERKLE = 1, 2
"""Versions of digests: one hash over source, id and payload of all events; the root of a tree over all that counts."""


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """A row of the log, as far as digests cover it."""

    ordinal: int
    source: str
    event_id: str
    event_type: str
    customer_id: str
    time_ns: int
    properties: Mapping[str, str]
    measured: Mapping[str, str]

    @property
    def payload_hash(self) -> bytes:
        return payload_hash(self.event_type, self.customer_id, self.time_ns, self.properties)

    def leaf(self) -> bytes:
        """Its leaf's content."""
        measured = orjson.dumps(self.measured, option=orjson.OPT_SORT_KEYS)
        return leaf_content(self.ordinal, self.source, self.event_id, self.payload_hash, measured)


def leaf_content(ordinal: int, source: str, event_id: str, payload: bytes, measured: bytes | str) -> bytes:
    """Canonical JSON of [ordinal, source, id, payload hash in hex, measured].

    `measured` is the canonical JSON object of what each meter measured, keys sorted.
    """
    return orjson.dumps((ordinal, source, event_id, payload.hex(), orjson.Fragment(measured)))


def leaves_of(events: Iterable[LoggedEvent]) -> list[bytes]:
    """The hashes of the leaves of a batch's recorded events, which come by ordinal."""
    return [leaf_hash(event.leaf()) for event in events]


def batch_digest(version: int, events: Sequence[LoggedEvent]) -> bytes | None:
    """What the digest of a batch with these recorded events, by ordinal, would be; None for an unknown version."""
    if version == MERKLE:
        return root(leaves_of(events))
    if version == FLAT:
        content = b"".join([orjson.dumps((event.source, event.event_id)) + event.payload_hash for event in events])
        return hashlib.blake2b(content, digest_size=32).digest()
    return None
