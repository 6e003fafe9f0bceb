"""Planted bugs behind the log: rating, billing, payments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import ROUND_CEILING, Decimal

from libs.money import Money, RoundingMode
from tests.faults.inside.bugs_in_transport import Active
from tests.faults.inside.seams import module

_HIGHER = 10_000


def delta_instead_of_state(active: Active) -> None:
    """Rating adds what a message says a window has grown by: a message that comes twice counts twice (guarantee 2)."""
    consumer = module("services.rating.messaging.usage_consumer")
    from services.rating.domain.usage import WindowRow
    from steelyard.ingest.v1 import usage_window_pb2

    read = consumer.window_from_pb
    last: dict[tuple[object, ...], Decimal] = {}
    totals: dict[tuple[object, ...], Decimal] = {}
    deltas: dict[tuple[object, ...], Decimal] = {}
    applied = 0

    def wrong(tenant_id: str, window: usage_window_pb2.UsageWindow) -> WindowRow:
        nonlocal applied
        row: WindowRow = read(tenant_id, window)
        if not active():
            return row
        key, applied = row[:5], applied + 1
        if (*key, row.version) not in deltas:
            deltas[(*key, row.version)] = Decimal(row.value) - last.get(key, Decimal(0))
            last[key] = Decimal(row.value)
        totals[key] = totals.get(key, Decimal(0)) + deltas[(*key, row.version)]
        # A delta has no version: every one is applied.
        return row._replace(value=str(totals[key]), version=row.version + _HIGHER + applied)

    consumer.window_from_pb = wrong


def stale_state(active: Active) -> None:
    """Rating stores a window as it comes, not only when its version is higher: an older one that comes late replaces a
    newer one (guarantee 2)."""
    from services.rating.domain.usage import WindowBatch
    from services.rating.store import usage_sql
    from services.rating.store.usage import PostgresUsageStore

    right = usage_sql.APPLY
    condition = "WHERE w.version < excluded.version"
    if condition not in right:
        raise LookupError("the condition on versions has moved: plant this bug anew")
    apply = PostgresUsageStore.apply

    async def wrong(self: PostgresUsageStore, batch: WindowBatch, now: datetime) -> int:
        usage_sql.APPLY = right.replace(condition, "") if active() else right
        return await apply(self, batch, now)

    PostgresUsageStore.apply = wrong  # type: ignore[method-assign]


def rounding_up(active: Active) -> None:
    """Billing rounds lines up instead of half to even: invoices drift from what usage costs."""
    invoice = module("services.billing.domain.invoice")
    right = invoice.round_to_minor

    def wrong(amount: Decimal, currency: str, mode: RoundingMode) -> Money:
        if not active():
            return right(amount, currency, mode)  # type: ignore[no-any-return]
        return Money(int(amount.scaleb(2).to_integral_value(ROUND_CEILING)), currency)

    invoice.round_to_minor = wrong


def closes_before_watermark(active: Active) -> None:
    """Billing issues an invoice as soon as its period is over, and what was acknowledged before but is still in the
    queue is not on it (conservation)."""
    queues = module("services.billing.store.queues")
    from services.billing.domain.charge import PeriodKey

    right = queues._CLAIM_CLOSING
    condition = "d.closing_at < (SELECT rated_through FROM rating_watermark) AND"
    if condition not in right:
        raise LookupError("the condition on the watermark has moved: plant this bug anew")
    claim = queues.PostgresQueues.claim_closing

    async def wrong(self: object, now: datetime, until: datetime, limit: int) -> dict[str, list[PeriodKey]]:
        queues._CLAIM_CLOSING = right.replace(condition, "d.closing_at IS NOT NULL AND") if active() else right
        return await claim(self, now, until, limit)  # type: ignore[no-any-return]

    queues.PostgresQueues.claim_closing = wrong


def new_key_on_retry(active: Active) -> None:
    """An attempt of unknown outcome is made again under another key, without asking: the gateway charges twice
    (every period is paid at most once)."""
    from services.payments.domain.attempt import Attempt
    from services.payments.domain.gateway import ChargeRequest, Outcome
    from services.payments.domain.payment import Payment
    from services.payments.usecases.call_gateway import CallGateway

    call = CallGateway._call

    async def wrong(self: CallGateway, payment: Payment, attempt: Attempt, ask: bool) -> Outcome:
        if not (active() and ask):
            return await call(self, payment, attempt, ask)
        key = f"{attempt.idempotency_key}:again"
        request = ChargeRequest(key, attempt.gateway_token, payment.amount, payment.invoice_id)
        return await self._gateway.charge(payment.tenant_id, request)

    CallGateway._call = wrong  # type: ignore[method-assign]


def timeout_is_a_decline(active: Active) -> None:
    """A call of the gateway without an answer counts as declined, so that another attempt is made while the first one
    may have captured (every period is paid at most once)."""
    from services.payments.domain.attempt import Attempt
    from services.payments.domain.gateway import Declined, NoAnswer, Outcome
    from services.payments.domain.payment import Payment
    from services.payments.usecases.call_gateway import CallGateway

    call = CallGateway.__call__

    async def wrong(self: CallGateway, payment: Payment, attempt: Attempt, *, ask: bool) -> Outcome:
        outcome = await call(self, payment, attempt, ask=ask)
        return Declined("timeout", hard=False, charge_id="") if active() and isinstance(outcome, NoAnswer) else outcome

    CallGateway.__call__ = wrong  # type: ignore[method-assign]


def capture_posted_short(active: Active) -> None:
    """The ledger is told less than what the gateway captured. Each transaction balances, the books are wrong."""
    ledger = module("services.payments.domain.ledger")
    right = ledger._move

    def wrong(tenant_id: str, kind: str, invoice_id: str, amount: Money, *rest: object) -> object:
        if active() and kind == "payment_captured":
            amount = Money(amount.minor_units - 1, amount.currency)
        return right(tenant_id, kind, invoice_id, amount, *rest)

    ledger._move = wrong


Bug = Callable[[Active], None]


def _of(service: str, *bugs: Bug) -> Mapping[str, tuple[tuple[str, ...], Bug]]:
    return {bug.__name__: ((service,), bug) for bug in bugs}


BUGS: dict[str, tuple[tuple[str, ...], Bug]] = {
    **_of("rating", delta_instead_of_state, stale_state),
    **_of("billing", rounding_up, closes_before_watermark),
    **_of("payments", new_key_on_retry, timeout_is_a_decline, capture_posted_short),
}
