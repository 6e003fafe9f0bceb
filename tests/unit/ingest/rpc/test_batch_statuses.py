"""Receipts that no acceptor gives are refused before anything is looked up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from libs.errors import InvalidInput, Violation
from libs.rpc import Audience, Principal, set_current_principal
from services.ingest.domain.recording import Fate
from services.ingest.domain.stored_event import StoredException
from services.ingest.rpc.usage_service import UsageServicer
from services.ingest.usecases.query_events import BatchState, BatchStatus, EventStore, Receipt
from services.ingest.usecases.query_usage import QueryUsage
from steelyard.ingest.v1 import ingest_service_pb2
from steelyard.ingest.v1 import usage_service_pb2 as pb

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
CONTEXT = cast(Any, None)


class FakeEvents:
    """Has recorded everything, except number 2, which it has lost; number 1 has a conflict."""

    async def batch_statuses(self, tenant_id: str, receipts: Sequence[Receipt]) -> list[BatchStatus]:
        assert tenant_id == "acme"
        problem = Violation("event_id", "OTHER_CONTENT", "is another one's")
        conflict = StoredException(("gateway", "e1"), Fate.CONFLICT, problem, NOON, "cust-01", 7, 0)
        return [
            BatchStatus(
                (epoch, number),
                BatchState.LOST if number == 2 else BatchState.RECORDED,
                [conflict] if number == 1 else [],
            )
            for epoch, number in receipts
        ]


def a_servicer() -> UsageServicer:
    """Its caller is acme from now on, in the task of the test."""
    set_current_principal(Principal(Audience.TENANT, "acme"))
    return UsageServicer(cast(QueryUsage, None), cast(EventStore, FakeEvents()))


def a_request(*receipts: tuple[str, int]) -> pb.GetBatchStatusesRequest:
    return pb.GetBatchStatusesRequest(
        receipts=[ingest_service_pb2.BatchReceipt(acceptor_epoch=epoch, batch_number=n) for epoch, n in receipts]
    )


class TestGetBatchStatuses:
    async def test_answers_with_states_and_exceptions(self) -> None:
        answer = await a_servicer().GetBatchStatuses(a_request(("e", 2), ("e", 1)), CONTEXT)

        lost, recorded = answer.statuses
        assert (lost.receipt.batch_number, lost.state) == (2, pb.BATCH_STATE_LOST)
        assert (recorded.receipt.acceptor_epoch, recorded.state) == ("e", pb.BATCH_STATE_RECORDED)
        (conflict,) = recorded.exceptions
        assert (conflict.key.event_id, conflict.reason) == ("e1", "OTHER_CONTENT")
        assert conflict.verdict == ingest_service_pb2.EVENT_VERDICT_CONFLICT

    @pytest.mark.parametrize(
        ("receipts", "field", "reason"),
        [
            ([], "receipts", "WRONG_NUMBER"),
            ([("e", 1)] * 1_001, "receipts", "WRONG_NUMBER"),
            ([("e", 1), ("", 1)], "receipts[1].acceptor_epoch", "WRONG_LENGTH"),
            ([("e" * 129, 1)], "receipts[0].acceptor_epoch", "WRONG_LENGTH"),
            ([("e\x00", 1)], "receipts[0].acceptor_epoch", "CONTROL_CHARACTER"),
            ([("e", 0)], "receipts[0].batch_number", "NOT_POSITIVE"),
            ([("e", -1)], "receipts[0].batch_number", "NOT_POSITIVE"),
        ],
        ids=["none", "too many", "no epoch", "long epoch", "unstorable epoch", "number 0", "negative number"],
    )
    async def test_refuses(self, receipts: list[tuple[str, int]], field: str, reason: str) -> None:
        with pytest.raises(InvalidInput) as refused:
            await a_servicer().GetBatchStatuses(a_request(*receipts), CONTEXT)

        assert [(violation.field, violation.reason) for violation in refused.value.violations] == [(field, reason)]

    async def test_takes_a_thousand(self) -> None:
        answer = await a_servicer().GetBatchStatuses(a_request(*(("e", n) for n in range(1, 1_001))), CONTEXT)
        assert len(answer.statuses) == 1_000
