"""How values of one tenant are packed into messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

MAX_VALUES = 500
MAX_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class StateValue:
    """The whole current value of an item (an encoded protobuf message) with its version."""

    key: str
    version: int
    payload: bytes


def packs(values: Sequence[StateValue]) -> Iterator[Sequence[StateValue]]:
    """Split values into messages of at most 500 values and 256 kB; a value that is larger goes alone."""
    start, size = 0, 0
    for index, value in enumerate(values):
        full = index - start == MAX_VALUES or size + len(value.payload) > MAX_BYTES
        if full and index > start:
            yield values[start:index]
            start, size = index, 0
        size += len(value.payload)
    if start < len(values):
        yield values[start:]


def pack_id(tenant_id: str, entity: str, values: Sequence[StateValue]) -> str:
    """Return the `Nats-Msg-Id` of a message: the same for the same versions of the same items, in any order."""
    digest = blake2b(digest_size=16)
    for value in sorted(values, key=lambda value: value.key):
        digest.update(f"{len(value.key)}:{value.key}:{value.version}\n".encode())
    return f"{tenant_id}:{entity}:{digest.hexdigest()}"
