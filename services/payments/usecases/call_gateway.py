"""Call the gateway for an attempt: charge it, or ask what became of it. Whatever goes wrong is "no answer"."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from opentelemetry import trace

from libs.clock import Clock
from libs.telemetry import context_from, tracer
from services.payments.domain.attempt import Attempt
from services.payments.domain.gateway import ChargeRequest, NeverSeen, NoAnswer, Outcome
from services.payments.domain.payment import Payment
from services.payments.usecases.ports import Gateway

_AT_A_TIME = 16
_TIMEOUT_S = 20.0

_logger = logging.getLogger(__name__)
_tracer = tracer("steelyard.payments")
AnswerT = TypeVar("AnswerT")


class CallGateway:
    """Some calls at a time, each within a time limit and in a span of the invoice's trace.

    What the gateway never saw is sent again under the same key, so that even a call that is still on its way cannot
    charge twice; but not once the gateway may have forgotten the key: then only a person can tell.
    """

    def __init__(self, gateway: Gateway, clock: Clock, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._gateway, self._clock, self._timeout_s = gateway, clock, timeout_s
        self._slots = asyncio.Semaphore(_AT_A_TIME)

    async def look_up(self, payment: Payment, attempt: Attempt) -> Outcome | NeverSeen:
        """Return what the gateway knows of the attempt; never sends it."""
        async with self._slots:
            return await self._guarded(attempt, self._gateway.find(payment.tenant_id, attempt.idempotency_key))

    async def __call__(self, payment: Payment, attempt: Attempt, *, ask: bool) -> Outcome:
        """Return the gateway's answer. `ask`: the attempt may have been sent before."""
        async with self._slots:
            with _attempt_span(payment, attempt) as span:
                outcome = await self._guarded(attempt, self._call(payment, attempt, ask))
                span.set_attribute("steelyard.outcome", type(outcome).__name__)
                return outcome

    async def _guarded(self, attempt: Attempt, call: Awaitable[AnswerT]) -> AnswerT | NoAnswer:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except Exception as error:
            # An exception is never an answer: the call may have had its effect before it failed.
            _logger.warning("%s: the call of the gateway failed", attempt.idempotency_key, exc_info=True)
            return NoAnswer(repr(error))

    async def _call(self, payment: Payment, attempt: Attempt, ask: bool) -> Outcome:
        if ask:
            found = await self._gateway.find(payment.tenant_id, attempt.idempotency_key)
            if not isinstance(found, NeverSeen):
                return found
            if not attempt.may_be_sent(self._clock()):
                _logger.critical("%s was never seen and is too old to be sent again", attempt.idempotency_key)
                return NoAnswer("never seen, and too old to be sent again")
        request = ChargeRequest(attempt.idempotency_key, attempt.gateway_token, payment.amount, payment.invoice_id)
        return await self._gateway.charge(payment.tenant_id, request)


@contextmanager
def _attempt_span(payment: Payment, attempt: Attempt) -> Iterator[trace.Span]:
    """Continue the trace of the invoice, which is that of a usage event behind it."""
    parent = context_from({"traceparent": payment.trace_parent}) if payment.trace_parent else None
    with _tracer.start_as_current_span("payments.attempt", context=parent, kind=trace.SpanKind.CLIENT) as span:
        span.set_attribute("steelyard.payment.id", payment.payment_id)
        span.set_attribute("steelyard.invoice.id", payment.invoice_id)
        span.set_attribute("steelyard.attempt.number", attempt.number)
        yield span
