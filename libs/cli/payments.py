"""steelyard payments ..."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from libs.cli.connection import as_operator, as_tenant, request_id
from libs.cli.output import Columns, Format, Output, as_dict, instant, money, name_of, print_json, say, show
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
    "SETTLED BY": lambda attempt: attempt.settled_by or "-",
    "KEY": lambda attempt: attempt.idempotency_key,
}
BALANCE_COLUMNS: Columns = {
    "ACCOUNT": lambda item: item.account,
    "BALANCE#": lambda item: f"{money(item.balance)} {item.balance.currency}",
}


class State(Enum):
    """What `--state` takes: the states of a payment; and `unknown`, which is that of its newest try."""

    REQUIRES_METHOD = "requires-method"
    SCHEDULED = "scheduled"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    CANCELED = "canceled"
    UNKNOWN = "unknown"


class Outcome(Enum):
    """What `--outcome` takes."""

    CAPTURED = "captured"
    FAILED = "failed"


@app.command("list")
def list_payments(
    customer: Annotated[str, typer.Option(help="only of this customer")] = "",
    state: Annotated[
        State | None, typer.Option(help="only in this state; unknown: the gateway has not answered")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """List payments, newest first."""
    wanted = payment_service_pb2.ListPaymentsRequest(customer_id=customer)
    if state is State.UNKNOWN:
        wanted.last_attempt_state = payment_pb2.ATTEMPT_STATE_UNKNOWN
    elif state is not None:
        wanted.state = payment_pb2.PaymentState.Value(f"PAYMENT_STATE_{state.name}")
    show(as_tenant(lambda client: all_payments(client, wanted)), COLUMNS, output)


async def all_payments(
    client: Client, wanted: payment_service_pb2.ListPaymentsRequest | None = None
) -> list[payment_pb2.Payment]:
    """Read all pages of what is wanted (None: all)."""
    request = payment_service_pb2.ListPaymentsRequest(page_size=1000)
    if wanted is not None:
        request.MergeFrom(wanted)
    payments: list[payment_pb2.Payment] = []
    while True:
        page = await client.services.payments.ListPayments(request)
        payments.extend(page.payments)
        request.page_token = page.next_page_token
        if not request.page_token:
            return payments


@app.command("show")
def show_payment(payment: str, output: Output = Format.TABLE) -> None:
    """Show one payment with its tries."""

    async def work(client: Client) -> payment_service_pb2.GetPaymentResponse:
        return await client.services.payments.GetPayment(payment_service_pb2.GetPaymentRequest(payment_id=payment))

    print_payment(as_tenant(work).payment, output)


def print_payment(payment: payment_pb2.Payment, output: Format) -> None:
    """Print a payment with its tries."""
    if output is Format.JSON:
        print_json(as_dict(payment))
    else:
        show([payment], COLUMNS, output)
        show(payment.attempts, ATTEMPT_COLUMNS, output, title="tries")


@app.command("settle")
def settle(
    tenant_id: str,
    payment: str,
    attempt: Annotated[int, typer.Option("--try", help="which of its tries")],
    outcome: Annotated[Outcome, typer.Option(help="whether the gateway has the money")],
    reason: Annotated[str, typer.Option(help="how you know")],
    actor: Annotated[str, typer.Option(help="who you are")],
    reference: Annotated[str, typer.Option(help="the gateway's id of the charge; required if captured")] = "",
    request: Annotated[str, typer.Option("--request-id", help="to repeat a call whose answer was lost")] = "",
    output: Output = Format.TABLE,
) -> None:
    """Say what became of a try that the gateway never answered, having found it out. It cannot be taken back."""
    asked = payment_service_pb2.SettleAttemptRequest(
        request_id=request or request_id(),
        tenant_id=tenant_id,
        payment_id=payment,
        attempt_number=attempt,
        outcome=payment_pb2.ManualOutcome.Value(f"MANUAL_OUTCOME_{outcome.name}"),
        gateway_reference=reference,
        reason=reason,
        actor=actor,
    )

    async def work(client: Client) -> payment_service_pb2.SettleAttemptResponse:
        return await client.services.payments.SettleAttempt(asked)

    print_payment(as_operator(work).payment, output)


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
    say(f"{response.transaction_count} transactions, {verdict}")
