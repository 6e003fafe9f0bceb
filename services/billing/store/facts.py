"""Facts about invoices on their way out, each in the trace of the usage behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from opentelemetry import trace
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.outbox import Fact, FactOutbox
from libs.telemetry import context_from, inject_headers, tracer
from services.billing.domain.events import InvoiceFact, InvoiceIssued
from services.billing.store.tables import fact_outbox

EncodeFact = Callable[[str, InvoiceFact], Fact]
"""Tenant id and domain event to the message that leaves."""

_tracer = tracer("steelyard.billing")


class PostgresFacts:
    """Adds facts to the outbox; `real_now` is what its relay goes by."""

    def __init__(self, connection: AsyncConnection, tenant_id: str, encode: EncodeFact, real_now: datetime) -> None:
        self._outbox = FactOutbox(connection, fact_outbox)
        self._tenant_id = tenant_id
        self._encode = encode
        self._real_now = real_now

    async def add(self, facts: Sequence[InvoiceFact]) -> None:
        """A fact with traces behind it continues the first and links the others; the rest keep the current trace."""
        await self._outbox.add([self._traced(fact) for fact in facts], self._real_now)

    def _traced(self, fact: InvoiceFact) -> Fact:
        encoded = self._encode(self._tenant_id, fact)
        if not isinstance(fact, InvoiceIssued) or not fact.trace_parents:
            return encoded
        first, *others = (context_from({"traceparent": parent}) for parent in fact.trace_parents)
        links = [trace.Link(trace.get_current_span(context).get_span_context()) for context in others]
        attributes = {"steelyard.tenant_id": self._tenant_id, "steelyard.invoice_id": fact.invoice.invoice_id}
        with _tracer.start_as_current_span("issue invoice", context=first, links=links, attributes=attributes):
            return replace(encoded, trace_headers=inject_headers())
