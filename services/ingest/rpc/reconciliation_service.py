"""ReconciliationService."""

from __future__ import annotations

from libs.money import plain
from libs.periods import Period
from libs.rpc import current_tenant
from services.ingest.rpc.requests import Context, period_between, required_time
from services.ingest.usecases.reconcile import Check, Reconcile
from steelyard.common.v1 import reconciliation_pb2
from steelyard.ingest.v1 import reconciliation_service_pb2 as pb
from steelyard.ingest.v1 import reconciliation_service_pb2_grpc


class ReconciliationServicer(reconciliation_service_pb2_grpc.ReconciliationServiceServicer):
    """Translates; no rules live here."""

    def __init__(self, reconcile: Reconcile) -> None:
        self._reconcile = reconcile

    async def Reconcile(self, request: pb.ReconcileRequest, context: Context) -> pb.ReconcileResponse:
        checks = await self._reconcile(current_tenant(), _period(request))
        return pb.ReconcileResponse(checks=[_check_to_pb(check) for check in checks])


def _period(request: pb.ReconcileRequest) -> Period | None:
    if not request.HasField("period"):
        return None
    period = request.period
    start = required_time(period.start, period.HasField("start"), "period.start")
    end = required_time(period.end, period.HasField("end"), "period.end")
    return period_between(start, end, "period.end")


def _check_to_pb(check: Check) -> reconciliation_pb2.ReconciliationCheck:
    return reconciliation_pb2.ReconciliationCheck(
        name=check.name,
        left=plain(check.left),
        right=plain(check.right),
        ok=check.holds,
        differences=[
            reconciliation_pb2.ReconciliationDifference(subject=item.subject, left=item.left, right=item.right)
            for item in check.differences
        ],
    )
