"""ReconciliationService: translates, no rules."""

from __future__ import annotations

from libs.errors import InvalidInput
from libs.money import plain
from libs.rpc import current_tenant
from services.rating.domain.comparison import Comparison
from services.rating.rpc.context import Context
from services.rating.usecases.reconcile import Reconcile
from services.rating.wire.times import period_from_pb
from steelyard.common.v1 import reconciliation_pb2
from steelyard.rating.v1 import reconciliation_service_pb2 as pb
from steelyard.rating.v1 import reconciliation_service_pb2_grpc as pb_grpc


class ReconciliationServicer(pb_grpc.ReconciliationServiceServicer):
    """Equations of the calling tenant."""

    def __init__(self, *, reconcile: Reconcile) -> None:
        self._reconcile = reconcile

    async def Reconcile(self, request: pb.ReconcileRequest, context: Context) -> pb.ReconcileResponse:
        try:
            within = period_from_pb(request.period) if request.HasField("period") else None
        except (ValueError, OverflowError) as error:
            raise InvalidInput.of("period", "INVALID_PERIOD", str(error)) from error
        comparisons = await self._reconcile(current_tenant(), within)
        return pb.ReconcileResponse(checks=[_check_to_pb(comparison) for comparison in comparisons])


def _check_to_pb(comparison: Comparison) -> reconciliation_pb2.ReconciliationCheck:
    return reconciliation_pb2.ReconciliationCheck(
        name=comparison.name,
        left=plain(comparison.left),
        right=plain(comparison.right),
        ok=comparison.ok,
        differences=[
            reconciliation_pb2.ReconciliationDifference(
                subject=difference.subject, left=difference.left, right=difference.right
            )
            for difference in comparison.differences
        ],
    )
