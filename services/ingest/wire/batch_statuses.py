"""Receipts of batches and their statuses on the wire."""

from __future__ import annotations

from collections.abc import Sequence

from libs.errors import InvalidInput, Violation
from services.ingest.usecases.query_events import BatchState, BatchStatus, Receipt
from services.ingest.wire.events import exception_to_pb
from steelyard.ingest.v1 import ingest_service_pb2, usage_service_pb2

_MAX_RECEIPTS = 1_000
_MAX_EPOCH = 128
_STATES = {
    BatchState.QUEUED: usage_service_pb2.BATCH_STATE_QUEUED,
    BatchState.RECORDED: usage_service_pb2.BATCH_STATE_RECORDED,
    BatchState.LOST: usage_service_pb2.BATCH_STATE_LOST,
    BatchState.PARKED: usage_service_pb2.BATCH_STATE_PARKED,
}


def receipts_from_pb(receipts: Sequence[ingest_service_pb2.BatchReceipt]) -> list[Receipt]:
    """
    :raises InvalidInput: if there are none or too many, or naming those that no acceptor gives
    """
    if not 1 <= len(receipts) <= _MAX_RECEIPTS:
        raise InvalidInput.of("receipts", "WRONG_NUMBER", f"must be 1 to {_MAX_RECEIPTS}")
    found: list[Violation] = []
    for index, receipt in enumerate(receipts):
        if not 1 <= len(receipt.acceptor_epoch) <= _MAX_EPOCH:
            description = f"must be 1 to {_MAX_EPOCH} characters"
            found.append(Violation(f"receipts[{index}].acceptor_epoch", "WRONG_LENGTH", description))
        if receipt.batch_number < 1:
            found.append(Violation(f"receipts[{index}].batch_number", "NOT_POSITIVE", "must be at least 1"))
    if found:
        raise InvalidInput(found)
    return [(receipt.acceptor_epoch, receipt.batch_number) for receipt in receipts]


def batch_status_to_pb(status: BatchStatus) -> usage_service_pb2.BatchStatus:
    epoch, number = status.receipt
    return usage_service_pb2.BatchStatus(
        receipt=ingest_service_pb2.BatchReceipt(acceptor_epoch=epoch, batch_number=number),
        state=_STATES[status.state],
        exceptions=[exception_to_pb(item) for item in status.exceptions],
    )
