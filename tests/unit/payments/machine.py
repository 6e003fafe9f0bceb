"""A state machine that does to payments whatever the world may do, and looks at the gateway's own record."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from datetime import timedelta
from typing import ClassVar, TypeVar

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.payments.domain.attempt import AttemptState
from services.payments.domain.events import IssuedInvoice, VoidedInvoice
from services.payments.domain.gateway import Captured
from services.payments.domain.manual_settlement import ManualOutcome
from services.payments.domain.payment import PaymentNotCancelable, PaymentState
from tests.unit.payments.fakes import Crash, Mortal, Trouble
from tests.unit.payments.world import ACME, DAY, FakeGatewayWorld, issued, voided

CUSTOMERS = ["cust-00", "cust-01"]
TOKENS = ["ok", "soft", "soft_then_ok", "hard"]
TROUBLES = ["answers", "lost", "unanswered", "dies before", "dies after", *(SLOW := ["slow before", "slow after"])]
BY_HAND = ["settled as captured", "settled as failed"]
INTERESTING = [*TROUBLES, *BY_HAND, "crash", "succeeded", "declined_soft", "declined_hard", "payment canceled"]

ResultT = TypeVar("ResultT")


class PaymentsMachine(RuleBasedStateMachine):
    """Subclasses say over which stores. Real time stays within a day: see KEY_LIFETIME."""

    loop: ClassVar[asyncio.AbstractEventLoop]
    seen: ClassVar[Counter[str]]
    """What has happened in all histories: a run in which the interesting cases are missing proves nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.world = self.do(self.make_world())
        self.mortal = self.world.worker = Mortal(self.world.worker)
        self.facts: list[IssuedInvoice | VoidedInvoice] = []
        self.canceled: set[str] = set()
        self.invoices = 0

    async def make_world(self) -> FakeGatewayWorld:
        raise NotImplementedError

    def do(self, work: Coroutine[object, object, ResultT]) -> ResultT:
        return self.loop.run_until_complete(work)

    @initialize(tokens=st.tuples(st.sampled_from(TOKENS), st.sampled_from(TOKENS)))
    def customers_have_methods(self, tokens: tuple[str, str]) -> None:
        for customer_id, token in zip(CUSTOMERS, tokens, strict=True):
            self.do(self.world.set_method(token, customer_id=customer_id))

    @rule(customer_ids=st.lists(st.sampled_from([*CUSTOMERS, "has-no-method-yet"]), min_size=1, max_size=3))
    def issue(self, customer_ids: list[str]) -> None:
        news = [self.next_invoice(customer_id) for customer_id in customer_ids]
        self.facts += news
        assert self.do(self.world.hear(*news)) == len(news)

    @rule(customer_id=st.sampled_from(CUSTOMERS), order=st.permutations(["issued", "voided"]))
    def void_before_collecting(self, customer_id: str, order: list[str]) -> None:
        """All of it happened while we were away: the call to cancel comes before any fact."""
        invoice = self.next_invoice(customer_id)
        self.do(self.world.cancel(invoice.invoice_id))
        self.canceled.add(invoice.invoice_id)
        both: dict[str, IssuedInvoice | VoidedInvoice] = {"issued": invoice, "voided": self.void_of(invoice)}
        for verb in order:
            self.facts.append(both[verb])
            self.do(self.world.hear(both[verb]))

    @rule(data=st.data())
    def hear_again(self, data: st.DataObject) -> None:
        if self.facts:
            again = data.draw(st.lists(st.sampled_from(self.facts), unique=True, min_size=1))
            assert self.do(self.world.hear(*again)) == 0

    @rule(data=st.data(), then_void=st.booleans())
    def cancel(self, data: st.DataObject, then_void: bool) -> None:
        """As billing does it: void only what payments has cancelled."""
        if not (candidates := [fact for fact in self.facts if isinstance(fact, IssuedInvoice)]):
            return
        invoice = data.draw(st.sampled_from(candidates))
        try:
            self.do(self.world.cancel(invoice.invoice_id))
        except PaymentNotCancelable:
            payment, _ = self.do(self.world.payment(invoice.invoice_id))
            assert payment.state in (PaymentState.PROCESSING, PaymentState.SUCCEEDED)
            return
        self.canceled.add(invoice.invoice_id)
        if then_void and self.void_of(invoice) not in self.facts:
            self.facts.append(self.void_of(invoice))
            self.do(self.world.hear(self.facts[-1]))

    @rule(customer_id=st.sampled_from(CUSTOMERS), token=st.sampled_from(TOKENS))
    def set_method(self, customer_id: str, token: str) -> None:
        self.do(self.world.set_method(token, customer_id=customer_id))

    @rule(
        customer_ids=st.lists(st.sampled_from(CUSTOMERS), max_size=3), trouble=st.sampled_from(["lost", "unanswered"])
    )
    def people_settle_what_is_not_answered(self, customer_ids: list[str], trouble: str) -> None:
        """Having looked at the gateway's record."""
        if customer_ids:
            self.issue(customer_ids)
        self.collect([trouble] * len(customer_ids), None)
        for payment, attempts in self.do(self.world.payments()):
            if not attempts or attempts[-1].state is not AttemptState.UNKNOWN:
                continue
            _, outcome = self.world.gateway.charges.get((ACME, attempts[-1].idempotency_key), (None, None))
            charge_id = outcome.charge_id if isinstance(outcome, Captured) else ""
            said = ManualOutcome.CAPTURED if charge_id else ManualOutcome.FAILED
            self.do(self.world.settle(said, charge_id, payment_id=payment.payment_id, number=attempts[-1].number))
            self.seen[f"settled as {said}"] += 1

    @rule(troubles=st.lists(st.sampled_from([*TROUBLES, *SLOW]), min_size=1, max_size=4))
    def collect_in_trouble(self, troubles: list[str]) -> None:
        self.collect(troubles, None)

    @rule(dies_after=st.integers(min_value=0, max_value=5))
    def collect_and_die(self, dies_after: int) -> None:
        self.collect([], dies_after)

    @rule(
        real_s=st.sampled_from([0, 1, 31, 600]),
        test_h=st.sampled_from([0, 23, 24]),
        troubles=st.lists(st.sampled_from(TROUBLES), max_size=4),
    )
    def collect_later(self, real_s: int, test_h: int, troubles: list[str]) -> None:
        self.world.clock.at += timedelta(seconds=real_s)
        self.world.times.tests[ACME] += timedelta(hours=test_h)
        self.collect(troubles, None)

    def next_invoice(self, customer_id: str) -> IssuedInvoice:
        self.invoices += 1
        return issued(f"inv_{self.invoices}", customer_id=customer_id, minor_units=self.invoices)

    @staticmethod
    def void_of(invoice: IssuedInvoice) -> VoidedInvoice:
        return voided(invoice.invoice_id, minor_units=invoice.total.minor_units)

    def collect(self, troubles: list[str], dies_after: int | None) -> None:
        self.world.gateway.trouble = [self.trouble(name) for name in troubles]
        self.mortal.dies_after = dies_after
        try:
            self.do(self.world.collect())
        except Crash:
            self.seen["crash"] += 1
        self.mortal.dies_after = None
        self.do(self.calls_of_the_dead())
        self.world.gateway.trouble = []

    async def calls_of_the_dead(self) -> None:
        """What a process has sent before it died still arrives."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    def trouble(self, name: str) -> Trouble:
        async def happens() -> None:
            self.seen[name] += 1
            if name.startswith("dies"):
                raise Crash
            if name.startswith("slow"):
                await another_process()

        async def another_process() -> None:
            """The claim runs out, another process asks, a day passes, the next try is made."""
            trouble, self.world.gateway.trouble = self.world.gateway.trouble, []
            await self.world.claims_run_out()
            await self.world.collect_after(test=DAY)
            self.world.gateway.trouble = trouble

        if name.endswith("after"):
            return Trouble(after=happens)
        return Trouble(lost=name == "lost", unanswered=name == "unanswered", before=happens)

    @invariant()
    def nothing_is_captured_twice(self) -> None:
        captures = self.do(self.world.gateway.captures(ACME, None))
        by_invoice = Counter(capture.reference for capture in captures)
        assert all(count == 1 for count in by_invoice.values()), by_invoice
        assert not self.canceled & by_invoice.keys()
        assert self.world.gateway.conflicts == []
        totals = {fact.invoice_id: fact.total for fact in self.facts}
        assert all(capture.amount == totals[capture.reference] for capture in captures)

    @invariant()
    def what_we_call_captured_was_and_the_ledger_says_so(self) -> None:
        captured = {capture.reference: capture for capture in self.do(self.world.gateway.captures(ACME, None))}
        posted = Counter[str]()
        for payment, attempts in self.do(self.world.payments()):
            ours = [attempt for attempt in attempts if attempt.state is AttemptState.SUCCEEDED]
            assert (payment.state is PaymentState.SUCCEEDED) == bool(ours)
            assert [attempt.number for attempt in attempts] == list(range(1, len(attempts) + 1))
            assert all(attempt.state.final for attempt in attempts[:-1])
            if ours:
                assert [attempt.gateway_charge_id for attempt in ours] == [captured[payment.invoice_id].charge_id]
                posted["gateway"] += payment.amount.minor_units
            if payment.invoice_id in self.canceled:
                assert payment.state is PaymentState.CANCELED
        balances = self.do(self.world.balances())
        assert sum(balances.values()) == 0
        assert balances.get("gateway", 0) == posted["gateway"]
        is_void = {fact.invoice_id for fact in self.facts if isinstance(fact, VoidedInvoice)}
        owed = [f.total.minor_units for f in self.facts if isinstance(f, IssuedInvoice) and f.invoice_id not in is_void]
        assert balances.get("revenue", 0) == -sum(owed)

    def teardown(self) -> None:
        """The world calms down, and everybody gives a method that works."""
        self.do(self.calm_down())
        captured = {capture.reference for capture in self.do(self.world.gateway.captures(ACME, None))}
        issued_ids = {fact.invoice_id for fact in self.facts if isinstance(fact, IssuedInvoice)}
        assert captured == issued_ids - self.canceled
        self.nothing_is_captured_twice()
        self.what_we_call_captured_was_and_the_ledger_says_so()
        for payment, attempts in self.do(self.world.payments()):
            assert payment.state in (PaymentState.SUCCEEDED, PaymentState.CANCELED)
            self.seen.update(f"{attempt.state}" for attempt in attempts)
            self.seen[f"payment {payment.state}"] += 1

    async def calm_down(self) -> None:
        # Twice: a card that was tried too often in 30 days has to be given again behind them.
        for _ in range(2):
            for customer_id in [*CUSTOMERS, "has-no-method-yet"]:
                await self.world.set_method("ok", customer_id=customer_id)
            for wait in (DAY, DAY, DAY, 31 * DAY):  # A question, the next try, and what they lead to.
                await self.world.collect_after(real=timedelta(hours=1), test=wait)
        assert await self.world.collect_after(real=timedelta(hours=1), test=9 * DAY) == 0
