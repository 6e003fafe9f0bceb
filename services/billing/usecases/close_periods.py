"""Turn billing periods that are over into invoices.

A period is due when its end and the tenant's grace are behind the tenant's now. At first sight the real time is stored
as `closing_at`; the invoice is issued once rating has passed that instant, so everything acknowledged before it counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from libs.clock import Clock
from libs.database import retry_transient
from libs.errors import ResourceExhausted, ServiceError
from services.billing.domain.charge import Charge, PeriodKey
from services.billing.domain.events import InvoiceFact, InvoiceIssued, InvoicePaid
from services.billing.domain.invoice import Invoice, InvoiceState, LineRefused, lines_from_charges
from services.billing.domain.trace import trace_parents
from services.billing.usecases.metrics import INVOICES_ISSUED, PERIODS_SET_ASIDE
from services.billing.usecases.ports import Confirmed, Queues, Rating, RowsRefused, UnitOfWork, Work
from services.billing.usecases.store_ports import ClosingPeriod

PERIODS_PER_CHUNK = 200
TENANTS_AT_ONCE = 4
CLAIM = timedelta(seconds=30)
RETRY = timedelta(seconds=2)
SET_ASIDE = timedelta(minutes=1)
REASON_LENGTH_MAX = 500
PERIOD_DIFFERS = "PERIOD_DIFFERS"

_logger = logging.getLogger(__name__)


class ClosePeriods:
    """One round: drafts for what is newly due, invoices for one chunk of what the watermark has passed.

    Run by any number of workers at once and after any crash, it issues one invoice per period: a claim keeps workers
    apart as a convenience, and the lock of the period's row, its due row and a unique key decide. Returns how many
    periods it touched; 0 when there is nothing to do, or nothing to be done because rating is away.
    """

    def __init__(self, *, unit_of_work: UnitOfWork, queues: Queues, rating: Rating, clock: Clock) -> None:
        self._unit_of_work = unit_of_work
        self._queues = queues
        self._rating = rating
        self._clock = clock

    async def __call__(self) -> int:
        return await self._start_closing() + await self._close()

    async def _start_closing(self) -> int:
        touched = 0
        newly_due = await self._queues.newly_due(self._clock(), PERIODS_PER_CHUNK)
        for tenant_id, keys in newly_due.items():
            async with self._unit_of_work(tenant_id) as work:
                touched += await work.periods.start_closing(keys, self._clock())
        return touched

    async def _close(self) -> int:
        now = self._clock()
        claimed = await self._queues.claim_closing(now, now + CLAIM, PERIODS_PER_CHUNK)
        at_once = asyncio.Semaphore(TENANTS_AT_ONCE)

        async def close(tenant_id: str, keys: Sequence[PeriodKey]) -> int:
            async with at_once:
                issue = IssueChunk(self._unit_of_work, self._clock, tenant_id, now + CLAIM)
                return await self._close_chunk(issue, keys)

        outcomes = await asyncio.gather(*(close(*chunk) for chunk in claimed.items()), return_exceptions=True)
        touched = 0
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            touched += outcome
        return touched

    async def _close_chunk(self, issue: IssueChunk, keys: Sequence[PeriodKey]) -> int:
        """Returns for how many periods rating had an answer."""
        try:
            answers = await self._rating.confirm_charges(issue.tenant_id, keys)
        except ResourceExhausted as error:
            if len(keys) == 1:
                await issue.set_aside({keys[0]: f"the charges do not fit into a message: {error}"}, SET_ASIDE)
                return 1
            middle = len(keys) // 2
            return await self._close_chunk(issue, keys[:middle]) + await self._close_chunk(issue, keys[middle:])
        except ServiceError as error:
            await issue.set_aside(dict.fromkeys(keys, f"rating cannot confirm the charges: {error}"), RETRY)
            return 0
        if refused := {answer.key: answer.refusal for answer in answers if answer.refusal}:
            await issue.set_aside(refused, RETRY)
        await issue([answer for answer in answers if not answer.refusal])
        return len(keys)


class IssueChunk:
    """Issues the invoices of one tenant's confirmed periods in one transaction, all or none.

    A chunk that the database refuses is halved until the bad item stands alone; that one is set aside.
    """

    def __init__(self, unit_of_work: UnitOfWork, clock: Clock, tenant_id: str, claimed_until: datetime) -> None:
        self.tenant_id = tenant_id
        self._unit_of_work = unit_of_work
        self._clock = clock
        self._claimed_until = claimed_until

    async def __call__(self, confirmed: Sequence[Confirmed]) -> None:
        if not confirmed:
            return
        try:
            # Another worker may hold the same rows in another order: then PostgreSQL ends one of the two.
            issued, refused = await retry_transient(lambda: self._issue(confirmed))
            INVOICES_ISSUED.add(issued)
        except RowsRefused as error:
            if len(confirmed) > 1:
                middle = len(confirmed) // 2
                await self(confirmed[:middle])
                await self(confirmed[middle:])
                return
            refused = {confirmed[0].key: str(error)}
        outdated = {key: reason for key, reason in refused.items() if reason == PERIOD_DIFFERS}
        if outdated:
            await self.set_aside(outdated, RETRY)
            await self._publish_again(list(outdated))
        if lasting := {key: reason for key, reason in refused.items() if key not in outdated}:
            await self.set_aside(lasting, SET_ASIDE)

    async def set_aside(self, reasons: dict[PeriodKey, str], retry_after: timedelta) -> None:
        """Keep the reasons with the periods, and leave them alone for a while; nothing if the claim is lost."""
        PERIODS_SET_ASIDE.add(len(reasons))
        # They quote what came from elsewhere, and nothing may keep a reason from being stored.
        reasons = {key: reason.replace("\0", "\ufffd")[:REASON_LENGTH_MAX] for key, reason in reasons.items()}
        for reason, count in Counter(reasons.values()).items():
            _logger.warning("%d periods of %s are not invoiced: %s", count, self.tenant_id, reason)
        async with self._unit_of_work(self.tenant_id) as work:
            await work.periods.set_aside(reasons, self._claimed_until, self._clock() + retry_after)

    async def _publish_again(self, keys: Sequence[PeriodKey]) -> None:
        """In case rating has missed what became of the periods, or has read it without understanding all of it."""
        async with self._unit_of_work(self.tenant_id) as work:
            await work.periods.publish(keys)

    async def _issue(self, confirmed: Sequence[Confirmed]) -> tuple[int, dict[PeriodKey, str]]:
        """One transaction: issue what can be issued; returns how many that are, and the reasons of the rest."""
        async with self._unit_of_work(self.tenant_id) as work:
            return await self._issue_in(work, confirmed)

    async def _issue_in(self, work: Work, confirmed: Sequence[Confirmed]) -> tuple[int, dict[PeriodKey, str]]:
        closing = await work.periods.lock_closing([item.key for item in confirmed], self._claimed_until)
        rated = {item.key: item for item in confirmed}
        outdated = {item.key: PERIOD_DIFFERS for item in closing if not _is_for(item, rated[item.key])}
        closing = [item for item in closing if item.key not in outdated]
        still_closing = {item.key for item in closing}
        charges = await _charges_to_freeze(work, [item for item in confirmed if item.key in still_closing])
        drafts, refused = _drafts(closing, charges)
        if drafts:
            tenant = await work.tenants.get()
            now = (await work.tenants.clock()).now(self._clock())
            await work.invoices.freeze(list(drafts.values()))
            await work.periods.invoiced(list(drafts))
            first = await work.invoices.take_numbers(len(drafts))
            issued = {
                value: draft.issue(invoice_number=tenant.invoice_number(value), now=now)
                for value, draft in enumerate(drafts.values(), first)
            }
            await work.invoices.issue(issued)
            await work.announce([fact for invoice in issued.values() for fact in _facts(invoice)])
        return len(drafts), refused | outdated


def _is_for(closing: ClosingPeriod, rated: Confirmed) -> bool:
    """Whether charges are for a period as it is now; rating may not know yet that it was cut, or has another card.

    Rating of older versions does not say what they are for, and did not know of shortened periods.
    """
    if any(charge.rate_card_id != closing.rate_card_id for charge in rated.charges):
        return False
    if rated.period is None:
        return closing.whole is None
    return (rated.period, rated.whole) == (closing.draft.period, closing.whole)


async def _charges_to_freeze(work: Work, confirmed: Sequence[Confirmed]) -> dict[PeriodKey, list[Charge]]:
    """The prices that rating named, each in the highest version that is known here after its answer."""
    await work.charges.apply([charge for item in confirmed for charge in item.charges])
    stored = await work.charges.of([item.key for item in confirmed])
    named = {item.key: {charge.price_id for charge in item.charges} for item in confirmed}
    return {key: [charge for charge in stored.get(key, []) if charge.price_id in named[key]] for key in named}


def _drafts(
    closing: Sequence[ClosingPeriod], charges: dict[PeriodKey, list[Charge]]
) -> tuple[dict[PeriodKey, Invoice], dict[PeriodKey, str]]:
    """The drafts with their lines, and the reasons for those that cannot have any."""
    drafts: dict[PeriodKey, Invoice] = {}
    refused: dict[PeriodKey, str] = {}
    for item in closing:
        try:
            drafts[item.key] = item.draft.with_lines(lines_from_charges(charges[item.key], item.draft.currency))
        except (LineRefused, ArithmeticError) as error:
            refused[item.key] = str(error)
    return drafts, refused


def _facts(invoice: Invoice) -> list[InvoiceFact]:
    issued = InvoiceIssued(invoice, tuple(trace_parents(invoice.lines)))
    return [issued, InvoicePaid(invoice)] if invoice.state is InvoiceState.PAID else [issued]
