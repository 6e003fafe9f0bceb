"""LedgerService and ReconciliationService: translate, no rules."""

from __future__ import annotations

import grpc

from libs.rpc import current_tenant, next_page_token, page_cursor, page_size
from services.payments.rpc import convert
from services.payments.usecases.get_payments import GetLedger
from services.payments.usecases.reconcile import Reconcile
from steelyard.payments.v1 import ledger_service_pb2 as pb
from steelyard.payments.v1 import (
    ledger_service_pb2_grpc,
    reconciliation_service_pb2,
    reconciliation_service_pb2_grpc,
)


class LedgerServicer(ledger_service_pb2_grpc.LedgerServiceServicer):
    def __init__(self, *, get_ledger: GetLedger) -> None:
        self._get_ledger = get_ledger

    async def GetLedgerBalances(
        self,
        request: pb.GetLedgerBalancesRequest,
        context: grpc.aio.ServicerContext[pb.GetLedgerBalancesRequest, pb.GetLedgerBalancesResponse],
    ) -> pb.GetLedgerBalancesResponse:
        summary = await self._get_ledger.summary(current_tenant())
        return pb.GetLedgerBalancesResponse(
            balances=[
                pb.LedgerBalance(account=account, balance=convert.money_to_pb(balance))
                for account, balance in summary.balances
            ],
            balanced=not summary.unbalanced,
            transaction_count=summary.transaction_count,
        )

    async def ListLedgerTransactions(
        self,
        request: pb.ListLedgerTransactionsRequest,
        context: grpc.aio.ServicerContext[pb.ListLedgerTransactionsRequest, pb.ListLedgerTransactionsResponse],
    ) -> pb.ListLedgerTransactionsResponse:
        size, cursor = page_size(request), page_cursor(request, 1)
        found = await self._get_ledger.page(
            current_tenant(),
            invoice_id=request.invoice_id and convert.checked_id(request.invoice_id, "invoice_id"),
            before=cursor[0] if cursor else "",
            limit=size + 1,
        )
        token = next_page_token(request, [found[size - 1].transaction_id]) if len(found) > size else ""
        transactions = [convert.transaction_to_pb(item) for item in found[:size]]
        return pb.ListLedgerTransactionsResponse(transactions=transactions, next_page_token=token)


class ReconciliationServicer(reconciliation_service_pb2_grpc.ReconciliationServiceServicer):
    def __init__(self, *, reconcile: Reconcile) -> None:
        self._reconcile = reconcile

    async def Reconcile(
        self,
        request: reconciliation_service_pb2.ReconcileRequest,
        context: grpc.aio.ServicerContext[
            reconciliation_service_pb2.ReconcileRequest, reconciliation_service_pb2.ReconcileResponse
        ],
    ) -> reconciliation_service_pb2.ReconcileResponse:
        period = convert.period_from_pb(request.period) if request.HasField("period") else None
        checks = await self._reconcile(current_tenant(), period)
        return reconciliation_service_pb2.ReconcileResponse(checks=[convert.check_to_pb(check) for check in checks])
