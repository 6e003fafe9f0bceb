"""ReconciliationService."""

from __future__ import annotations

from typing import TypeAlias

import grpc
from google.protobuf.message import Message

from libs.rpc import current_tenant
from services.billing.domain.reconciliation import Check
from services.billing.usecases.reconcile import Reconcile
from services.billing.wire.common import period_from_pb
from steelyard.billing.v1 import reconciliation_service_pb2, reconciliation_service_pb2_grpc
from steelyard.common.v1 import reconciliation_pb2

Context: TypeAlias = grpc.aio.ServicerContext[Message, Message]


class ReconciliationServicer(reconciliation_service_pb2_grpc.ReconciliationServiceServicer):
    """Translates; no rules live here."""

    def __init__(self, reconcile: Reconcile) -> None:
        self._reconcile = reconcile

    async def Reconcile(
        self, request: reconciliation_service_pb2.ReconcileRequest, context: Context
    ) -> reconciliation_service_pb2.ReconcileResponse:
        within = period_from_pb(request.period, "period") if request.HasField("period") else None
        checks = await self._reconcile(tenant_id=current_tenant(), within=within)
        return reconciliation_service_pb2.ReconcileResponse(checks=map(_check_to_pb, checks))


def _check_to_pb(check: Check) -> reconciliation_pb2.ReconciliationCheck:
    differences = [
        reconciliation_pb2.ReconciliationDifference(subject=item.subject, left=item.left, right=item.right)
        for item in check.differences
    ]
    return reconciliation_pb2.ReconciliationCheck(
        name=check.name, left=check.left, right=check.right, ok=check.ok, differences=differences
    )
