"""Who may call what."""

from __future__ import annotations

from libs.rpc import Audience

_CALLERS = Audience.TENANT | Audience.INTERNAL
_PACKAGE = "steelyard.payments.v1"

METHODS = {
    f"{_PACKAGE}.PaymentService/SetPaymentMethod": _CALLERS,
    f"{_PACKAGE}.PaymentService/GetPayment": _CALLERS,
    f"{_PACKAGE}.PaymentService/ListPayments": _CALLERS,
    f"{_PACKAGE}.PaymentService/CancelPayment": Audience.INTERNAL,
    f"{_PACKAGE}.PaymentService/SettleAttempt": Audience.OPERATOR,
    f"{_PACKAGE}.LedgerService/GetLedgerBalances": _CALLERS,
    f"{_PACKAGE}.LedgerService/ListLedgerTransactions": _CALLERS,
    f"{_PACKAGE}.ReconciliationService/Reconcile": _CALLERS,
}
