"""steelyard payments ..."""

from __future__ import annotations

from typing import Annotated

import typer

from libs.cli.connection import as_tenant, request_id
from libs.cli.output import CONSOLE, Columns, Format, Output, as_dict, instant, money, name_of, print_json, show
from steelyard import Client
from steelyard.payments.v1 import ledger_service_pb2, payment_pb2, payment_service_pb2

app = typer.Typer(help="Payments, payment methods and the ledger.", no_args_is_help=True)

COLUMNS: Columns = {
    "PAYMENT": lambda payment: payment.payment_id,
    "INVOICE": lambda payment: payment.invoice_number or payment.invoice_id,
    "CUSTOMER": lambda payment: payment.customer_id,
    "AMOUNT#": lambda payment: f"{money(payment.amount)} {payment.amount.currency}",
    "STATE": lambda payment: name_of(payment_pb2.PaymentState, payment.state, "PAYMENT_STATE"),
    "TRIES#": lambda payment: len(payment.attempts),
    "NEXT TRY": lambda payment: instant(payment.next_attempt_time),
}
ATTEMPT_COLUMNS: Columns = {
    "TRY#": lambda attempt: attempt.number,
    "STATE": lambda attempt: name_of(payment_pb2.AttemptState, attempt.state, "ATTEMPT_STATE"),
    "GATEWAY CHARGE": lambda attempt: attempt.gateway_charge_id or "-",
    "CODE": lambda attempt: attempt.decline_code or "-",
    "KEY": lambda attempt: attempt.idempotency_key,
}
BALANCE_COLUMNS: Columns = {
    "ACCOUNT": lambda item: item.account,
    "BALANCE#": lambda item: f"{money(item.balance)} {item.balance.currency}",
}


@app.command("list")
def list_payments(
    customer: Annotated[str, typer.Option(help="only of this customer")] = "", output: Output = Format.TABLE
) -> None:
    """List payments, newest first."""
    show(as_tenant(lambda client: all_payments(client, customer)), COLUMNS, output)


async def all_payments(client: Client, customer_id: str = "") -> list[payment_pb2.Payment]:
    """Read all pages."""
    payments: list[payment_pb2.Payment] = []
    token = ""
    while True:
        page = await client.services.payments.ListPayments(
            payment_service_pb2.ListPaymentsRequest(customer_id=customer_id, page_size=1000, page_token=token)
        )
        payments.extend(page.payments)
        token = page.next_page_token
        if not token:
            return payments


@app.command("show")
def show_payment(payment: str, output: Output = Format.TABLE) -> None:
    """Show one payment with its tries."""

    async def work(client: Client) -> payment_service_pb2.GetPaymentResponse:
        return await client.services.payments.GetPayment(payment_service_pb2.GetPaymentRequest(payment_id=payment))

    found = as_tenant(work).payment
    if output is Format.JSON:
        print_json(as_dict(found))
    else:
        show([found], COLUMNS, output)
        show(found.attempts, ATTEMPT_COLUMNS, output, title="tries")


@app.command("set-method")
def set_method(customer: str, token: str, output: Output = Format.TABLE) -> None:
    """Collect CUSTOMER's invoices with the gateway's TOKEN (never a card number)."""

    async def work(client: Client) -> payment_service_pb2.SetPaymentMethodResponse:
        return await client.services.payments.SetPaymentMethod(
            payment_service_pb2.SetPaymentMethodRequest(
                request_id=request_id(), customer_id=customer, gateway_token=token
            )
        )

    method = as_tenant(work).payment_method
    show([method], {"METHOD": lambda m: m.payment_method_id, "CUSTOMER": lambda m: m.customer_id}, output)


@app.command("ledger")
def ledger(output: Output = Format.TABLE) -> None:
    """Show the balance of each account; debits are positive."""

    async def work(client: Client) -> ledger_service_pb2.GetLedgerBalancesResponse:
        return await client.services.ledger.GetLedgerBalances(ledger_service_pb2.GetLedgerBalancesRequest())

    response = as_tenant(work)
    if output is Format.JSON:
        print_json(as_dict(response))
        return
    show(response.balances, BALANCE_COLUMNS, output)
    verdict = "balanced" if response.balanced else "NOT BALANCED"
    CONSOLE.print(f"{response.transaction_count} transactions, {verdict}", highlight=False)
