"""Check receipts of the sealed log, without a server.

A receipt (`LogService.GetReceipts`) shows that an event is in a batch, and the batch in the chain, at `receipt.place`.
Keep both: `steelyard log verify --kept`, or VerifyLog with `kept_head=receipt.place`, shows later that the log still
goes through that place. The forms that are hashed are in docs/guides/tamper-evidence.md.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from steelyard.errors import SteelyardError
from steelyard.events import UsageEvent
from steelyard.ingest.v1 import log_service_pb2, usage_event_pb2

_BATCH_FORM = "steelyard.batch.1"
_BATCH_ITEMS = 16
_TENANT, _FATES, _DIGEST_VERSION, _ROOT = 1, 10, 14, 15
_TREE = 2


class ReceiptInvalid(SteelyardError):
    """A receipt does not prove that the event is in the log; the message says what is wrong."""


def verify(receipt: log_service_pb2.LogReceipt, event: UsageEvent, *, tenant_id: str = "") -> None:
    """Return if the receipt proves that exactly this event was recorded, at `receipt.place` of the chain.

    :param event: as it was sent; its source is compared if it names one
    :param tenant_id: if it is given, the batch has to be this tenant's
    :raises ReceiptInvalid: if it does not
    """
    _check_leaf(receipt.leaf, event)
    entry = _items(receipt.batch_entry, _BATCH_ITEMS, "the entry")
    if entry[0] != _BATCH_FORM or entry[_DIGEST_VERSION] != _TREE:
        raise ReceiptInvalid(f"the entry has another form than {_BATCH_FORM}: a newer SDK may know it")
    if tenant_id and entry[_TENANT] != tenant_id:
        raise ReceiptInvalid(f"the batch is of tenant {entry[_TENANT]}")
    if entry[_FATES][:1] != [receipt.tree_size]:
        raise ReceiptInvalid("the batch has another number of recorded events")
    if _root(receipt).hex() != entry[_ROOT]:
        raise ReceiptInvalid("the event is not in the batch: the path leads to another root")
    if _chain_hash(receipt) != receipt.place.chain_hash:
        raise ReceiptInvalid("the batch is not in the chain: the entry gives another hash")


def _check_leaf(leaf: bytes, event: UsageEvent) -> None:
    _, source, event_id, payload, _ = _items(leaf, 5, "the leaf")
    sent = event.to_pb(str(source))
    if (sent.source, sent.event_id) != (source, event_id):
        raise ReceiptInvalid(f"the receipt is of event {event_id} of {source}")
    if _payload_hash(sent) != payload:
        raise ReceiptInvalid("the event that was recorded has another type, customer, time or properties")


def _payload_hash(event: usage_event_pb2.UsageEvent) -> str:
    """BLAKE2b-128 of the canonical JSON array [type, customer, nanoseconds, properties]."""
    time_ns = event.event_time.seconds * 1_000_000_000 + event.event_time.nanos
    content = _canonical([event.event_type, event.customer_id, time_ns, dict(event.properties)])
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _root(receipt: log_service_pb2.LogReceipt) -> bytes:
    """Where the path leads, as in RFC 6962, 2.1.1."""
    index, size, path = receipt.leaf_index, receipt.tree_size, list(receipt.audit_path)
    if not 0 <= index < size:
        raise ReceiptInvalid(f"there is no leaf {index} of {size}")
    found, last = _sha256(b"\x00", receipt.leaf), size - 1
    while last > 0:
        if index ^ 1 <= last:
            if not path:
                raise ReceiptInvalid("the path is too short")
            other = path.pop(0)
            found = _sha256(b"\x01", other, found) if index & 1 else _sha256(b"\x01", found, other)
        index, last = index >> 1, last >> 1
    if path:
        raise ReceiptInvalid("the path is too long")
    return found


def _chain_hash(receipt: log_service_pb2.LogReceipt) -> bytes:
    linked_us = receipt.link_time.seconds * 1_000_000 + receipt.link_time.nanos // 1_000
    entry_hash = _sha256(receipt.batch_entry).hex()
    return _sha256(_canonical([receipt.previous_chain_hash.hex(), receipt.place.position, linked_us, entry_hash]))


def _items(content: bytes, count: int, what: str) -> list[Any]:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise ReceiptInvalid(f"{what} is no JSON") from error
    if not isinstance(found, list) or len(found) != count:
        raise ReceiptInvalid(f"{what} has another form")
    return found


def _canonical(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def _sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()
