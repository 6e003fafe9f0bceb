"""How payments behaves whatever the stores are: run over fakes and over PostgreSQL, always with the fake gateway."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from libs.errors import InvalidInput, RequestIdReused
from services.payments.domain.attempt import KEY_LIFETIME, AttemptState
from services.payments.domain.gateway import Captured
from services.payments.domain.payment import PaymentNotCancelable, PaymentNotFound, PaymentState
from services.payments.domain.retries import MAX_SOFT_DECLINES, RETRY_AFTER
from services.payments.usecases.begin_attempts import CLAIM
from services.payments.usecases.ports import BilledInvoice, TaskKind
from tests.unit.payments.fakes import Claimed, Crash, Trouble
from tests.unit.payments.world import ACME, DAY, REAL_NOW, TEST_NOW, FakeGatewayWorld, a_request_id, eur, issued, voided

SECOND = timedelta(seconds=1)


async def die() -> None:
    raise Crash


class Collecting:
    """From an issued invoice to its money."""

    async def test_captures_once_and_says_so(self, world: FakeGatewayWorld) -> None:
        await world.set_method("ok")
        await world.hear(issued())

        await world.collect()

        payment, [attempt] = await world.payment()
        assert (payment.state, payment.next_attempt_at) == (PaymentState.SUCCEEDED, None)
        assert (attempt.state, attempt.gateway_charge_id) == (AttemptState.SUCCEEDED, "ch_1")
        assert attempt.idempotency_key == f"pay:acme:{payment.payment_id}:1"
        assert (payment.created_at, attempt.created_at) == (TEST_NOW, REAL_NOW)
        assert await world.balances() == {"gateway": 1999, "receivable": 0, "revenue": -1999}
        assert await world.collect_after(real=DAY, test=DAY) == 0

    async def test_waits_for_a_method_and_then_tries_at_once(self, world: FakeGatewayWorld) -> None:
        await world.hear(issued())
        await world.collect()
        assert (await world.payment())[0].state is PaymentState.REQUIRES_METHOD
        await world.set_method("ok", customer_id="somebody-else")
        assert await world.collect() == 0

        await world.set_method("ok")

        assert (await world.payment())[0].state is PaymentState.SCHEDULED
        await world.collect()
        assert (await world.payment())[0].state is PaymentState.SUCCEEDED

    async def test_tries_again_a_day_later_on_the_tenants_clock(self, world: FakeGatewayWorld) -> None:
        await world.set_method("soft_then_ok")
        await world.hear(issued())
        await world.collect()
        payment, [attempt] = await world.payment()
        assert (payment.state, attempt.state) == (PaymentState.SCHEDULED, AttemptState.DECLINED_SOFT)
        assert payment.next_attempt_at == TEST_NOW + RETRY_AFTER

        assert await world.collect_after(real=3 * DAY, test=DAY - SECOND) == 0
        assert await world.collect_after(test=SECOND) == 1

        payment, attempts = await world.payment()
        assert payment.state is PaymentState.SUCCEEDED
        assert [attempt.number for attempt in attempts] == [1, 2]
        assert len({attempt.idempotency_key for attempt in attempts}) == 2

    async def test_gives_up_after_soft_declines_until_there_is_another_method(self, world: FakeGatewayWorld) -> None:
        await world.hear(issued())
        for methods in (1, 2):
            await world.set_method("soft")
            tries = [await world.collect_after(test=DAY) for _day in range(MAX_SOFT_DECLINES + 2)]
            assert sum(tries) == MAX_SOFT_DECLINES
            payment, attempts = await world.payment()
            assert payment.state is PaymentState.REQUIRES_METHOD
            assert len(attempts) == MAX_SOFT_DECLINES * methods

    async def test_never_repeats_a_hard_decline_with_the_same_method(self, world: FakeGatewayWorld) -> None:
        await world.set_method("hard")
        await world.hear(issued())
        await world.collect()
        assert await world.collect_after(real=9 * DAY, test=9 * DAY) == 0
        payment, [attempt] = await world.payment()
        assert (payment.state, attempt.state) == (PaymentState.REQUIRES_METHOD, AttemptState.DECLINED_HARD)
        assert attempt.decline_code == "stolen"

        await world.set_method("ok")
        await world.collect()

        assert (await world.payment())[0].state is PaymentState.SUCCEEDED

    async def test_tries_a_method_that_was_given_during_the_call(self, world: FakeGatewayWorld) -> None:
        async def give_another() -> None:
            await world.set_method("ok")

        await world.set_method("hard")
        await world.hear(issued())
        world.gateway.trouble = [Trouble(before=give_another)]

        await world.collect()

        payment, attempts = await world.payment()
        assert payment.state is PaymentState.SUCCEEDED
        assert [attempt.gateway_token for attempt in attempts] == ["hard", "ok"]

    async def test_collects_many_in_one_pass(self, world: FakeGatewayWorld) -> None:
        await world.set_method("ok")
        await world.set_method("hard", customer_id="cust-02")
        await world.hear(*(issued(f"inv_{n}", customer_id=f"cust-0{1 + n % 3}", minor_units=n + 1) for n in range(30)))

        assert await world.collector()() == 30

        states = [payment.state for payment, _ in await world.payments()]
        assert states.count(PaymentState.SUCCEEDED) == states.count(PaymentState.REQUIRES_METHOD) / 2 == 10
        assert sum((await world.balances()).values()) == 0

    async def test_two_collectors_charge_once(self, world: FakeGatewayWorld) -> None:
        for customer_id in ("cust-01", "cust-02"):
            await world.set_method("ok", customer_id=customer_id)
        await world.hear(*(issued(f"inv_{n}", customer_id=f"cust-0{1 + n % 2}") for n in range(20)))

        handled = await asyncio.gather(*(world.collector()() for _ in range(4)))

        assert sum(handled) == world.gateway.calls == 20
        assert {payment.state for payment, _ in await world.payments()} == {PaymentState.SUCCEEDED}


class UnknownOutcomes:
    """Ask, never charge blind."""

    @pytest.fixture
    async def due(self, world: FakeGatewayWorld) -> None:
        await world.set_method("ok")
        await world.hear(issued())

    async def test_finds_what_was_charged_though_never_answered(self, world: FakeGatewayWorld, due: None) -> None:
        world.gateway.trouble = [Trouble(unanswered=True)]
        await world.collect()
        payment, [attempt] = await world.payment()
        assert (payment.state, attempt.state) == (PaymentState.PROCESSING, AttemptState.UNKNOWN)
        assert await world.collect_after(test=9 * DAY) == 0

        await world.collect_after(real=SECOND)

        payment, [attempt] = await world.payment()
        assert (payment.state, attempt.state) == (PaymentState.SUCCEEDED, AttemptState.SUCCEEDED)
        assert len(world.gateway.charges) == 1

    async def test_sends_what_never_arrived_again_under_the_same_key(self, world: FakeGatewayWorld, due: None) -> None:
        world.gateway.trouble = [Trouble(lost=True)]
        await world.collect()
        assert world.gateway.charges == {}

        await world.collect_after(real=SECOND)

        payment, [attempt] = await world.payment()
        assert payment.state is PaymentState.SUCCEEDED
        assert list(world.gateway.charges) == [(ACME, attempt.idempotency_key)]

    async def test_asks_ever_more_rarely(self, world: FakeGatewayWorld, due: None) -> None:
        world.gateway.trouble = [Trouble(unanswered=True) for _ in range(8)]
        await world.collect()
        waited_s = []
        for rung_s in (1, 5, 30, 300, 3_600, 3_600, 3_600):
            assert await world.collect_after(real=timedelta(seconds=rung_s) - SECOND) == 0
            assert await world.collect_after(real=SECOND) == 1
            waited_s.append(rung_s)
        assert world.gateway.calls == 1 + len(waited_s)
        await world.collect_after(real=timedelta(hours=1))
        assert (await world.payment())[0].state is PaymentState.SUCCEEDED
        assert len(world.gateway.charges) == 1

    async def test_never_sends_a_key_again_that_the_gateway_may_have_forgotten(
        self, world: FakeGatewayWorld, due: None
    ) -> None:
        world.gateway.trouble = [Trouble(lost=True)]
        await world.collect()

        await world.collect_after(real=KEY_LIFETIME)
        await world.collect_after(real=DAY)

        assert world.gateway.charges == {}
        payment, [attempt] = await world.payment()
        assert (payment.state, attempt.state) == (PaymentState.PROCESSING, AttemptState.UNKNOWN)

    async def test_believes_the_gateway_however_late(self, world: FakeGatewayWorld, due: None) -> None:
        world.gateway.trouble = [Trouble(unanswered=True)]
        await world.collect()
        await world.collect_after(real=30 * DAY)
        assert (await world.payment())[0].state is PaymentState.SUCCEEDED

    async def test_leaves_an_amount_that_it_did_not_ask_for_to_people(self, world: FakeGatewayWorld, due: None) -> None:
        payment, _ = await world.payment()
        world.gateway.trouble = [Trouble(unanswered=True)]
        await world.collect()
        [(key, (request, _))] = world.gateway.charges.items()
        world.gateway.charges[key] = (request, Captured("ch_1", eur(1)))

        await world.collect_after(real=SECOND)
        await world.collect_after(real=DAY)

        payment, [attempt] = await world.payment()
        assert (payment.state, attempt.state) == (PaymentState.PROCESSING, AttemptState.UNKNOWN)
        assert await world.balances() == {"receivable": 1999, "revenue": -1999}

    @pytest.mark.parametrize("moment", ["before", "after"])
    async def test_survives_death_around_the_call(self, world: FakeGatewayWorld, due: None, moment: str) -> None:
        world.gateway.trouble = [Trouble(before=die) if moment == "before" else Trouble(after=die)]
        with pytest.raises(Crash):
            await world.collect()
        payment, [attempt] = await world.payment()
        assert (payment.state, attempt.state) == (PaymentState.PROCESSING, AttemptState.CREATED)
        assert await world.collect_after(real=CLAIM - SECOND) == 0

        await world.collect_after(real=SECOND)

        assert (await world.payment())[0].state is PaymentState.SUCCEEDED
        assert len(world.gateway.charges) == 1
        assert await world.balances() == {"gateway": 1999, "receivable": 0, "revenue": -1999}

    async def test_counts_the_first_of_two_outcomes_when_a_call_outlives_its_claim(
        self, world: FakeGatewayWorld, due: None
    ) -> None:
        async def another_process() -> None:
            assert await world.claims_run_out() == 1

        world.gateway.trouble = [Trouble(before=another_process)]
        await world.collect()

        payment, [attempt] = await world.payment()
        assert (payment.state, attempt.state) == (PaymentState.SUCCEEDED, AttemptState.SUCCEEDED)
        assert len(world.gateway.charges) == 1
        assert world.gateway.conflicts == []

    async def test_does_not_take_the_outcome_of_an_earlier_attempt_for_that_of_a_later(
        self, world: FakeGatewayWorld
    ) -> None:
        async def settle_and_begin_the_next() -> None:
            assert await world.claims_run_out() == 1
            world.gateway.trouble = [Trouble(unanswered=True)]
            assert await world.collect_after(test=DAY) == 1

        await world.set_method("soft_then_ok")
        await world.hear(issued())
        world.gateway.trouble = [Trouble(after=settle_and_begin_the_next)]
        await world.collect()

        _, [first, second] = await world.payment()
        assert (first.state, second.state) == (AttemptState.DECLINED_SOFT, AttemptState.UNKNOWN)
        await world.collect_after(real=SECOND)
        assert (await world.payment())[0].state is PaymentState.SUCCEEDED
        assert len(await world.gateway.captures(ACME, None)) == 1

    async def test_a_process_that_slept_over_its_claim_leaves_the_question_alone(
        self, world: FakeGatewayWorld, due: None
    ) -> None:
        """It has claimed a try, another process makes it and dies: somebody must still ask."""
        payment, _ = await world.payment()
        world.gateway.trouble = [Trouble(before=die)]
        with pytest.raises(Crash):
            await world.collect()

        await world.collector(due=Claimed({(ACME, payment.payment_id): TaskKind.COLLECT}))()
        await world.claims_run_out()

        assert (await world.payment())[0].state is PaymentState.SUCCEEDED

    async def test_a_process_that_slept_over_its_claim_leaves_the_next_try_alone(self, world: FakeGatewayWorld) -> None:
        """It has claimed a question, another process asks and learns of a decline: the next try must still come."""
        await world.set_method("soft_then_ok")
        await world.hear(issued())
        await world.collect()
        payment, _ = await world.payment()

        await world.collector(due=Claimed({(ACME, payment.payment_id): TaskKind.ASK}))()
        await world.collect_after(test=DAY)

        assert (await world.payment())[0].state is PaymentState.SUCCEEDED


class Cancelling:
    """So that billing may void."""

    async def test_prevents_a_payment_that_is_not_there_yet(self, world: FakeGatewayWorld) -> None:
        assert await world.cancel() is None
        await world.set_method("ok")

        await world.hear(issued())

        assert await world.collect() == 0
        assert (await world.payment())[0].state is PaymentState.CANCELED
        assert await world.balances() == {"receivable": 1999, "revenue": -1999}

    async def test_cancels_what_is_due(self, world: FakeGatewayWorld) -> None:
        await world.set_method("ok")
        await world.hear(issued())

        found = await world.cancel()

        assert found is not None
        assert found[0].state is PaymentState.CANCELED
        assert await world.collect_after(real=DAY, test=DAY) == 0

    async def test_cancels_what_was_declined_and_answers_with_its_attempts(self, world: FakeGatewayWorld) -> None:
        await world.set_method("soft")
        await world.hear(issued())
        await world.collect()

        found = await world.cancel()

        assert found is not None
        assert [attempt.state for attempt in found[1]] == [AttemptState.DECLINED_SOFT]
        assert await world.collect_after(test=DAY) == 0

    async def test_cancels_what_waits_for_a_method(self, world: FakeGatewayWorld) -> None:
        await world.hear(issued())
        await world.collect()

        await world.cancel()
        await world.set_method("ok")

        assert await world.collect() == 0
        assert (await world.payment())[0].state is PaymentState.CANCELED

    @pytest.mark.parametrize(
        ("trouble", "state"),
        [(Trouble(), "succeeded"), (Trouble(lost=True), "processing"), (Trouble(unanswered=True), "processing")],
    )
    async def test_refuses_when_money_moved_or_may_have(
        self, world: FakeGatewayWorld, trouble: Trouble, state: str
    ) -> None:
        await world.set_method("ok")
        await world.hear(issued())
        world.gateway.trouble = [trouble]
        await world.collect()

        with pytest.raises(PaymentNotCancelable) as refused:
            await world.cancel()

        assert refused.value.metadata["state"] == state
        await world.collect_after(real=SECOND)
        assert (await world.payment())[0].state is PaymentState.SUCCEEDED

    async def test_refuses_between_the_commit_of_an_attempt_and_its_call(self, world: FakeGatewayWorld) -> None:
        async def cancel() -> None:
            with pytest.raises(PaymentNotCancelable):
                await world.cancel()

        await world.set_method("ok")
        await world.hear(issued())
        world.gateway.trouble = [Trouble(before=cancel)]
        await world.collect()
        assert (await world.payment())[0].state is PaymentState.SUCCEEDED

    async def test_answers_a_repetition_and_another_request_alike(self, world: FakeGatewayWorld) -> None:
        await world.hear(issued())
        request_id = a_request_id()
        first = await world.cancel(request_id=request_id)
        assert await world.cancel(request_id=request_id) == await world.cancel() == first
        with pytest.raises(RequestIdReused):
            await world.cancel("inv_2", request_id=request_id)

    async def test_names_every_field_at_fault(self, world: FakeGatewayWorld) -> None:
        with pytest.raises(InvalidInput) as refused:
            await world.cancel("", request_id="7")
        assert [violation.field for violation in refused.value.violations] == ["request_id", "invoice_id"]


class Recording:
    """Billing's facts, in any order and any number of times."""

    async def test_takes_each_fact_once(self, world: FakeGatewayWorld) -> None:
        assert await world.hear(issued(), issued("inv_2")) == 2
        assert await world.hear(issued("inv_2"), issued("inv_3"), issued()) == 1
        assert len(await world.payments()) == 3
        assert (await world.ledger()).transaction_count == 3

    async def test_has_nothing_to_do_for_an_invoice_over_nothing(self, world: FakeGatewayWorld) -> None:
        assert await world.hear(issued(minor_units=0), voided(minor_units=0)) == 2
        assert await world.payments() == []
        assert (await world.ledger()).transaction_count == 0
        with pytest.raises(PaymentNotFound):
            await world.payment()

    @pytest.mark.parametrize("order", ["issued first", "voided first", "together", "together, voided first"])
    async def test_reverses_a_void_invoice_in_whatever_order(self, world: FakeGatewayWorld, order: str) -> None:
        await world.cancel()
        first, second = (
            (voided(), issued()) if order.endswith("voided first") or order == "voided first" else (issued(), voided())
        )
        if order.startswith("together"):
            await world.hear(first, second)
        else:
            await world.hear(first)
            await world.hear(second)
        await world.hear(first, second)

        assert await world.balances() == {"receivable": 0, "revenue": 0}
        assert (await world.ledger()).transaction_count == 2
        assert (await world.payment())[0].state is PaymentState.CANCELED
        assert await world.collect_after(test=DAY) == 0

    @pytest.mark.parametrize("at_once", [True, False])
    async def test_does_not_collect_what_was_voided_without_being_cancelled(
        self, world: FakeGatewayWorld, at_once: bool
    ) -> None:
        await world.set_method("ok")
        if at_once:
            await world.hear(issued(), voided())
        else:
            await world.hear(issued())
            await world.hear(voided())
        assert await world.collect() == 0
        assert (await world.payment())[0].state is PaymentState.CANCELED

    async def test_owes_what_was_captured_for_a_void_invoice(
        self, world: FakeGatewayWorld, caplog: pytest.LogCaptureFixture
    ) -> None:
        await world.set_method("ok")
        await world.hear(issued())
        await world.collect()

        await world.hear(voided())

        assert await world.balances() == {"gateway": 1999, "receivable": -1999, "revenue": 0}
        assert "voided although it is being paid" in caplog.text


class Methods:
    """What a customer's invoices are collected with."""

    async def test_answers_a_repeated_request_with_the_first_method(self, world: FakeGatewayWorld) -> None:
        request_id = a_request_id()
        first = await world.set_method("soft", request_id=request_id)
        await world.set_method("ok")
        assert await world.set_method("soft", request_id=request_id) == first
        with pytest.raises(RequestIdReused):
            await world.set_method("hard", request_id=request_id)
        await world.hear(issued())
        await world.collect()
        assert (await world.payment())[0].state is PaymentState.SUCCEEDED  # The repetition has set nothing.

    async def test_names_every_field_at_fault(self, world: FakeGatewayWorld) -> None:
        with pytest.raises(InvalidInput) as refused:
            await world.set_method("4242 4242 4242 4242", customer_id="", request_id="")
        found = {violation.field: violation.reason for violation in refused.value.violations}
        assert found == {
            "request_id": "REQUIRED",
            "customer_id": "REQUIRED",
            "gateway_token": "CARD_NUMBER_REFUSED",
        }
        assert "4242" not in str(refused.value)


class Due:
    """What is due across tenants."""

    async def test_is_claimed_by_one_until_the_claim_runs_out(self, world: FakeGatewayWorld) -> None:
        await world.hear(*(issued(f"inv_{n}") for n in range(5)))
        first, second = await world.claim(2), await world.claim()
        assert (len(first), len(second)) == (2, 3)
        assert set(first.values()) == {TaskKind.COLLECT}
        assert await world.claim() == {}
        world.clock.at += CLAIM
        assert set(await world.claim()) == {*first, *second}

    async def test_goes_by_the_clock_of_each_tenant(self, world: FakeGatewayWorld) -> None:
        """ACME's invoice is of its own present; for a tenant in real time the same instant is years ahead."""
        await world.hear(issued(), issued(tenant_id="beta"))
        assert [tenant_id for tenant_id, _ in await world.claim()] == [ACME]
        world.times.tests[ACME] = TEST_NOW - DAY
        world.clock.at = TEST_NOW
        assert [tenant_id for tenant_id, _ in await world.claim()] == ["beta"]


class Reconciling:
    """Each check holds, and fails when it should."""

    @staticmethod
    def billed(state: str, invoice_id: str = "inv_1", minor_units: int = 1999) -> BilledInvoice:
        return BilledInvoice(invoice_id, f"INV-{invoice_id}", eur(minor_units), state)

    async def failing(self, world: FakeGatewayWorld, *billed: BilledInvoice) -> dict[str, list[tuple[str, str, str]]]:
        """The differences of the checks that do not hold."""
        checks = await world.reconcile(*billed)
        assert len(checks) == 5
        return {
            check.name: [(item.subject.split(",")[0], item.left, item.right) for item in check.differences]
            for check in checks
            if not check.ok
        }

    @pytest.fixture
    async def paid(self, world: FakeGatewayWorld) -> None:
        await world.set_method("ok")
        await world.hear(issued(), issued("inv_2", minor_units=1), issued("inv_0", minor_units=0))
        await world.cancel("inv_2")
        await world.hear(voided("inv_2", minor_units=1))
        await world.collect()

    async def test_agrees_when_all_is_well(self, world: FakeGatewayWorld, paid: None) -> None:
        zero, void = self.billed("paid", "inv_0", 0), self.billed("void", "inv_2", 1)
        assert await self.failing(world, self.billed("paid"), zero, void) == {}

    async def test_names_a_capture_that_billing_does_not_know(self, world: FakeGatewayWorld, paid: None) -> None:
        assert await self.failing(world, self.billed("issued"), self.billed("void", "inv_2", 1)) == {
            "paid invoices = captured payments": [("inv_1", "", "1999")],
            "facts = ledger transactions": [("payment_captured:inv_1", "", "1999")],
        }

    async def test_names_an_invoice_that_never_arrived(self, world: FakeGatewayWorld, paid: None) -> None:
        known = (self.billed("paid"), self.billed("void", "inv_2", 1))
        assert await self.failing(world, *known, self.billed("issued", "inv_9", 7)) == {
            "invoices = payments": [("inv_9", "7", "")],
            "facts = ledger transactions": [("invoice_issued:inv_9", "7", "")],
        }

    async def test_names_an_invoice_that_billing_does_not_have(self, world: FakeGatewayWorld, paid: None) -> None:
        found = await self.failing(world, self.billed("paid"))
        assert found == {
            "facts = ledger transactions": [("invoice_issued:inv_2", "", "1"), ("invoice_voided:inv_2", "", "1")]
        }

    async def test_names_a_charge_of_which_only_the_gateway_knows(self, world: FakeGatewayWorld, paid: None) -> None:
        [(key, (request, _))] = world.gateway.charges.items()
        world.gateway.charges[ACME, "another key"] = (request, Captured("ch_9", eur(1999)))
        assert await self.failing(world, self.billed("paid"), self.billed("void", "inv_2", 1)) == {
            "captured attempts = gateway's record": [("inv_1", "", "1999")]
        }
        del world.gateway.charges[key]
        assert "captured attempts = gateway's record" in await self.failing(world, self.billed("paid"))
