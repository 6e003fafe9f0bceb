"""The sealed log on the wire."""

from __future__ import annotations

from libs.errors import InvalidInput
from libs.money import plain
from services.ingest.domain.event_key import EventKey
from services.ingest.domain.log_chain import ChainHead
from services.ingest.usecases.get_receipts import LogReceipt, NoReceipt
from services.ingest.usecases.log_ports import LogHead, Seal, SealSum
from services.ingest.usecases.verify_log import Altered, Difference
from services.ingest.wire.corrections import key_to_pb
from services.ingest.wire.times import time_to_pb
from steelyard.ingest.v1 import log_service_pb2 as pb

_ALTERED = {
    Altered.CHAIN: pb.ALTERED_KIND_CHAIN,
    Altered.BATCH: pb.ALTERED_KIND_BATCH,
    Altered.SEAL: pb.ALTERED_KIND_SEAL,
    Altered.WINDOW: pb.ALTERED_KIND_WINDOW,
    Altered.LOG: pb.ALTERED_KIND_LOG,
}
_HASH_BYTES = 32


def place_to_pb(head: ChainHead) -> pb.LogHead:
    return pb.LogHead(position=head.position, chain_hash=head.chain_hash)


def kept_head_from_pb(message: pb.LogHead) -> ChainHead:
    """
    :raises InvalidInput: if it is no place in a chain
    """
    if message.position < 1:
        raise InvalidInput.of("kept_head.position", "OUT_OF_RANGE", "must be at least 1")
    if len(message.chain_hash) != _HASH_BYTES:
        raise InvalidInput.of("kept_head.chain_hash", "WRONG_LENGTH", f"must have {_HASH_BYTES} bytes")
    return ChainHead(message.position, message.chain_hash)


def head_to_pb(head: LogHead) -> pb.GetLogHeadResponse:
    return pb.GetLogHeadResponse(
        head=place_to_pb(head.head),
        link_time=time_to_pb(head.linked_at) if head.linked_at else None,
        sealed_through_time=time_to_pb(head.sealed_through) if head.sealed_through else None,
        unlinked_batches=head.queued,
    )


def seal_to_pb(seal: Seal) -> pb.Seal:
    entry = seal.entry
    return pb.Seal(
        hour_start_time=time_to_pb(entry.hour_start),
        version=entry.version,
        cause=entry.cause,
        event_count=entry.event_count,
        window_count=entry.window_count,
        windows_digest=entry.windows_digest,
        seal_time=time_to_pb(entry.sealed_at),
        place=pb.LogHead(position=seal.position, chain_hash=seal.chain_hash),
    )


def sum_to_pb(found: SealSum) -> pb.SealSum:
    return pb.SealSum(
        meter_id=found.meter_id,
        customer_id=found.customer_id,
        event_count=found.event_count,
        window_count=found.window_count,
        value_sum=plain(found.value_sum),
        digest=found.digest,
    )


def receipt_to_pb(key: EventKey, found: LogReceipt | NoReceipt) -> pb.ReceiptResult:
    if isinstance(found, NoReceipt):
        return pb.ReceiptResult(key=key_to_pb(key), reason=found)
    return pb.ReceiptResult(
        key=key_to_pb(key),
        receipt=pb.LogReceipt(
            leaf=found.leaf,
            leaf_index=found.leaf_index,
            tree_size=found.tree_size,
            audit_path=found.path,
            batch_entry=found.batch_entry,
            previous_chain_hash=found.previous_hash,
            place=place_to_pb(found.place),
            link_time=time_to_pb(found.linked_at),
        ),
    )


def difference_to_pb(difference: Difference) -> pb.LogDifference:
    return pb.LogDifference(kind=_ALTERED[difference.what], name=difference.name, description=difference.description)
