"""A person settles what the gateway never answers: run over fakes and over PostgreSQL."""

from __future__ import annotations

import asyncio

import pytest

from libs.errors import InvalidInput, RequestIdReused
from services.payments.domain.attempt import KEY_LIFETIME, AttemptState
from services.payments.domain.gateway import Captured, ChargeRequest, Declined
from services.payments.domain.manual_settlement import (
    FAILED_CODE,
    AttemptNotFound,
    AttemptNotUnknown,
    GatewayReferenceInUse,
    ManualOutcome,
)
from services.payments.domain.payment import PaymentNotFound, PaymentState
from services.payments.usecases.get_payments import GetPayments
from services.payments.usecases.ports import BilledInvoice, PaymentFilter
from tests.unit.payments.fakes import Trouble
from tests.unit.payments.world import ACME, DAY, TEST_NOW, FakeGatewayWorld, a_request_id, eur, issued

CAPTURED, FAILED = ManualOutcome.CAPTURED, ManualOutcome.FAILED
OWED, PAID = {"receivable": 1999, "revenue": -1999}, {"gateway": 1999, "receivable": 0, "revenue": -1999}


async def forgotten(world: FakeGatewayWorld) -> None:
    """An attempt that the gateway never saw, and whose key it may have forgotten."""
    await world.set_method("ok")
    await world.hear(issued())
    world.gateway.trouble = [Trouble(lost=True)]
    await world.collect()
    await world.collect_after(real=KEY_LIFETIME)
    assert (await world.payment())[1][-1].state is AttemptState.UNKNOWN


async def differences(world: FakeGatewayWorld, state: str) -> list[tuple[str, str, str]]:
    """What reconciliation finds between our captures and the gateway's."""
    [check] = [
        check
        for check in await world.reconcile(BilledInvoice("inv_1", "INV-1", eur(1999), state))
        if check.name == "captured attempts = gateway's record"
    ]
    return [(item.subject, item.left, item.right) for item in check.differences]


class SettlingByHand:
    """With the effect of the gateway's own answer."""

    @pytest.fixture
    async def unknown(self, world: FakeGatewayWorld) -> None:
        await forgotten(world)

    async def test_as_captured_pays_the_invoice(self, world: FakeGatewayWorld, unknown: None) -> None:
        payment, [attempt] = await world.settle(CAPTURED, "ch_9")

        assert (payment.state, payment.next_attempt_at) == (PaymentState.SUCCEEDED, None)
        assert (attempt.state, attempt.gateway_charge_id) == (AttemptState.SUCCEEDED, "ch_9")
        assert attempt.settled_by == "jo"
        assert await world.balances() == PAID
        assert await world.collect_after(real=9 * DAY, test=9 * DAY) == 0

    async def test_as_failed_has_it_tried_again_under_another_key(self, world: FakeGatewayWorld, unknown: None) -> None:
        payment, [attempt] = await world.settle(FAILED)
        assert (payment.state, payment.next_attempt_at) == (PaymentState.SCHEDULED, TEST_NOW + DAY)
        assert (attempt.state, attempt.decline_code) == (AttemptState.DECLINED_SOFT, FAILED_CODE)
        assert await world.balances() == OWED
        assert await world.collect_after(real=DAY) == 0

        await world.collect_after(test=DAY)

        payment, [first, second] = await world.payment()
        assert (payment.state, first.settled_by, second.settled_by) == (PaymentState.SUCCEEDED, "jo", "")
        assert list(world.gateway.charges) == [(ACME, second.idempotency_key)]
        assert await world.balances() == PAID

    async def test_answers_a_repetition_with_the_payment_and_posts_once(
        self, world: FakeGatewayWorld, unknown: None
    ) -> None:
        request_id = a_request_id()
        first = await world.settle(CAPTURED, "ch_9", request_id=request_id)
        assert await world.settle(CAPTURED, "ch_9", request_id=request_id) == first
        assert await world.balances() == PAID
        with pytest.raises(RequestIdReused):
            await world.settle(CAPTURED, "ch_8", request_id=request_id)
        with pytest.raises(RequestIdReused):
            await world.settle(CAPTURED, "ch_9", request_id=request_id, actor="al")

    async def test_twenty_at_once_settle_once(self, world: FakeGatewayWorld, unknown: None) -> None:
        both = [world.settle(CAPTURED, f"ch_{n}") if n % 2 else world.settle(FAILED) for n in range(20)]
        done = await asyncio.gather(*both, return_exceptions=True)
        refused = [outcome for outcome in done if isinstance(outcome, BaseException)]
        assert [type(error) for error in refused] == [AttemptNotUnknown] * 19
        payment, [attempt] = await world.payment()
        assert (await world.balances() == PAID) == (payment.state is PaymentState.SUCCEEDED)
        assert attempt.state.final

    async def test_refuses_what_is_known_or_may_be_any_second(self, world: FakeGatewayWorld) -> None:
        async def settle_meanwhile() -> None:
            with pytest.raises(AttemptNotUnknown) as refused:
                await world.settle(FAILED)
            assert refused.value.metadata == {"state": "created"}

        await world.set_method("ok")
        await world.hear(issued())
        world.gateway.trouble = [Trouble(before=settle_meanwhile)]
        await world.collect()

        with pytest.raises(AttemptNotUnknown) as refused:
            await world.settle(FAILED)

        assert refused.value.metadata == {"state": "succeeded"}
        assert await world.balances() == PAID

    async def test_refuses_what_is_not_there(self, world: FakeGatewayWorld, unknown: None) -> None:
        with pytest.raises(AttemptNotFound):
            await world.settle(FAILED, number=2)
        with pytest.raises(PaymentNotFound):
            await world.settle(FAILED, payment_id="pay_of_nobody")
        request_id = a_request_id()
        with pytest.raises(AttemptNotFound):
            await world.settle(FAILED, number=2, request_id=request_id)
        await world.settle(FAILED, request_id=request_id)  # A refused request has claimed nothing.

    async def test_refuses_a_charge_that_has_paid_another_invoice(self, world: FakeGatewayWorld, unknown: None) -> None:
        await world.hear(issued("inv_2"))
        await world.collect()
        [charge] = [attempt.gateway_charge_id for attempt in (await world.payment("inv_2"))[1]]

        with pytest.raises(GatewayReferenceInUse) as refused:
            await world.settle(CAPTURED, charge)

        assert refused.value.metadata == {"invoiceId": "inv_2"}
        assert (await world.payment())[1][0].state is AttemptState.UNKNOWN

    async def test_names_every_field_at_fault(self, world: FakeGatewayWorld) -> None:
        with pytest.raises(InvalidInput) as refused:
            await world.settle(CAPTURED, payment_id="", number=0, reason="", actor="", request_id="7")
        assert [violation.field for violation in refused.value.violations] == [
            "request_id",
            "payment_id",
            "attempt_number",
            "gateway_reference",
            "reason",
            "actor",
        ]

    async def test_settles_another_amount_that_was_put_right_at_the_gateway(self, world: FakeGatewayWorld) -> None:
        await world.set_method("ok")
        await world.hear(issued())
        world.gateway.trouble = [Trouble(unanswered=True)]
        await world.collect()
        [(key, (request, _))] = world.gateway.charges.items()
        world.gateway.charges[key] = (request, Captured("ch_1", eur(1)))
        await world.collect_after(real=DAY)

        await world.settle(CAPTURED, "ch_1")

        assert await world.balances() == PAID
        assert await differences(world, "paid") == [("inv_1, charge ch_1", "1999", "1")]
        world.gateway.charges[key] = (request, Captured("ch_1", eur(1999)))
        assert await differences(world, "paid") == []

    async def test_what_stays_unknown_can_be_listed(self, world: FakeGatewayWorld, unknown: None) -> None:
        await world.hear(issued("inv_2"))
        await world.collect()
        await world.hear(issued("inv_3", customer_id="has-no-method"))
        wanted = PaymentFilter(last_attempt=AttemptState.UNKNOWN)

        async def listed() -> list[str]:
            found = await GetPayments(world.api).page(ACME, wanted, before="", limit=10)
            return [payment.invoice_id for payment, _ in found]

        assert await listed() == ["inv_1"]
        await world.settle(FAILED)
        assert await listed() == []


class Contradictions:
    """What the gateway says after a person has spoken: the person's word stands, and the difference is named."""

    @pytest.mark.parametrize(
        ("outcome", "reference", "balances", "found"),
        [
            (CAPTURED, "ch_1", PAID, []),
            (CAPTURED, "ch_9", PAID, [("inv_1, charge ch_1", "", "1999"), ("inv_1, charge ch_9", "1999", "")]),
            (FAILED, "", OWED, [("inv_1, charge ch_1", "", "1999")]),
        ],
    )
    async def test_a_call_that_is_on_its_way_is_captured(
        self,
        world: FakeGatewayWorld,
        caplog: pytest.LogCaptureFixture,
        outcome: ManualOutcome,
        reference: str,
        balances: dict[str, int],
        found: list[tuple[str, str, str]],
    ) -> None:
        """It was sent again, and while the gateway works on it a person settles it."""

        async def settle() -> None:
            await world.settle(outcome, reference)

        await world.set_method("ok")
        await world.hear(issued())
        world.gateway.trouble = [Trouble(lost=True), Trouble(), Trouble(after=settle)]
        await world.collect()
        await world.collect_after(real=DAY / 2)

        _, [attempt] = await world.payment()
        assert attempt.settled_by == "jo"
        assert await world.balances() == balances
        state = "paid" if outcome is CAPTURED else "issued"
        assert await differences(world, state) == found
        assert ("but now: Captured" in caplog.text) == bool(found)
        # The gateway has the money: taking it a second time is for a person to decide.
        assert await world.collect_after(real=9 * DAY, test=9 * DAY) == 0
        assert len(world.gateway.charges) == 1

    async def test_a_person_may_have_it_tried_in_spite_of_them(self, world: FakeGatewayWorld) -> None:
        async def settle() -> None:
            await world.settle(FAILED)

        await world.set_method("ok")
        await world.hear(issued())
        world.gateway.trouble = [Trouble(lost=True), Trouble(), Trouble(after=settle)]
        await world.collect()
        await world.collect_after(real=DAY / 2)
        assert (await world.payment())[0].state is PaymentState.REQUIRES_METHOD

        await world.set_method("ok")
        await world.collect()

        assert (await world.payment())[0].state is PaymentState.SUCCEEDED
        assert await world.balances() == PAID
        assert await differences(world, "paid") == [("inv_1, charge ch_1", "", "1999")]

    async def test_a_decline_of_what_a_person_calls_captured_changes_nothing(
        self, world: FakeGatewayWorld, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def settle() -> None:
            await world.settle(CAPTURED, "ch_9")

        await world.set_method("soft")
        await world.hear(issued())
        world.gateway.trouble = [Trouble(lost=True), Trouble(), Trouble(after=settle)]
        await world.collect()
        await world.collect_after(real=DAY / 2)

        payment, [attempt] = await world.payment()
        assert (payment.state, attempt.state) == (PaymentState.SUCCEEDED, AttemptState.SUCCEEDED)
        assert await world.balances() == PAID
        assert await differences(world, "paid") == [("inv_1, charge ch_9", "1999", "")]
        assert "but now: Declined" in caplog.text

    async def test_the_gateway_is_asked_once_more_before_it_is_charged_again(self, world: FakeGatewayWorld) -> None:
        """It was away for days; it has the money although a person has called the attempt failed."""
        await world.set_method("ok")
        await world.hear(issued())
        world.gateway.trouble = [Trouble(unanswered=True), Trouble(unanswered=True), Trouble(unanswered=True)]
        await world.collect()
        await world.collect_after(real=2 * DAY)
        await world.settle(FAILED)
        assert await world.collect_after(test=DAY) == 1  # No answer again: nothing is tried.
        assert (await world.payment())[0].state is PaymentState.SCHEDULED

        await world.claims_run_out()

        payment, [attempt] = await world.payment()
        assert (payment.state, attempt.state) == (PaymentState.REQUIRES_METHOD, AttemptState.DECLINED_SOFT)
        assert len(world.gateway.charges) == 1
        assert await differences(world, "issued") == [("inv_1, charge ch_1", "", "1999")]
        assert await world.collect_after(real=9 * DAY, test=9 * DAY) == 0

    async def test_a_hard_decline_that_a_person_could_not_see_ends_the_tries(self, world: FakeGatewayWorld) -> None:
        await forgotten(world)
        _, [attempt] = await world.payment()
        await world.settle(FAILED)
        request = ChargeRequest(attempt.idempotency_key, "ok", eur(1999), "inv_1")
        world.gateway.charges[ACME, attempt.idempotency_key] = (request, Declined("stolen", hard=True))

        await world.collect_after(test=DAY)

        payment, [attempt] = await world.payment()
        assert (payment.state, attempt.state) == (PaymentState.REQUIRES_METHOD, AttemptState.DECLINED_HARD)
        assert (attempt.decline_code, len(world.gateway.charges)) == ("stolen", 1)
