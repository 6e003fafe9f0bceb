"""Facts on their way out, each in the trace of its invoice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from libs.outbox import Fact, FactOutbox
from services.payments.domain.events import PaymentFact
from services.payments.store.tables import facts as tables

EncodeFact = Callable[[PaymentFact], Fact]


async def add_facts(
    connection: AsyncConnection, facts: Sequence[PaymentFact], encode: EncodeFact, now: datetime
) -> None:
    """Add facts to the outbox; one whose id is there already changes nothing. `now` is real time."""
    encoded = [replace(encode(fact), trace_headers=_trace_headers(fact.payment.trace_parent)) for fact in facts]
    await FactOutbox(connection, tables).add(encoded, now)


def _trace_headers(trace_parent: str) -> dict[str, str]:
    return {"traceparent": trace_parent} if trace_parent else {}
