from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from services.payments.domain.attempt import KEY_LIFETIME, Attempt, AttemptState, ask_again_after, known
from services.payments.domain.gateway import Captured, Declined, NoAnswer
from services.payments.domain.payment import AmountMismatch, Payment, PaymentNotCancelable, PaymentState
from services.payments.domain.retries import MAX_SOFT_DECLINES
from tests.unit.payments.world import DAY, REAL_NOW, TEST_NOW, eur

SOFT, HARD = Declined("no_money", hard=False), Declined("stolen", hard=True)


def a_payment(minor_units: int = 1999) -> Payment:
    return Payment.for_invoice(
        tenant_id="acme",
        payment_id="pay_1",
        invoice_id="inv_1",
        invoice_number="INV-1",
        customer_id="cust-01",
        amount=eur(minor_units),
        issued_at=TEST_NOW,
    )


def under_way() -> tuple[Payment, Attempt]:
    return a_payment().begin(token="tok", now=REAL_NOW, tenant_now=TEST_NOW)


class TestPayment:
    @pytest.mark.parametrize("minor_units", [0, -1])
    def test_needs_something_to_collect(self, minor_units: int) -> None:
        with pytest.raises(ValueError, match="nothing to collect"):
            a_payment(minor_units)

    def test_begins_an_attempt_whose_key_says_which_it_is(self) -> None:
        payment, attempt = under_way()
        assert (payment.state, payment.next_attempt_at) == (PaymentState.PROCESSING, None)
        assert (attempt.idempotency_key, attempt.number) == ("pay:acme:pay_1:1", 1)

    @pytest.mark.parametrize("state", sorted(set(PaymentState) - {PaymentState.SCHEDULED}))
    def test_begins_none_unless_one_is_due(self, state: PaymentState) -> None:
        with pytest.raises(ValueError, match="no attempt may start"):
            replace(a_payment(), state=state).begin(token="tok", now=REAL_NOW, tenant_now=TEST_NOW)

    def test_is_captured_in_full_or_not_at_all(self) -> None:
        payment, attempt = under_way()
        settled, final = payment.settle(attempt, Captured("ch_1", eur(1999)), TEST_NOW, current_token="tok")
        assert (settled.state, final.state, final.gateway_charge_id) == ("succeeded", "succeeded", "ch_1")
        with pytest.raises(AmountMismatch):
            payment.settle(attempt, Captured("ch_1", eur(1998)), TEST_NOW, current_token="tok")

    @pytest.mark.parametrize("outcome", [Captured("ch_1", eur(1999)), SOFT, HARD])
    def test_takes_one_outcome_for_an_attempt(self, outcome: Captured | Declined) -> None:
        payment, attempt = under_way()
        settled, final = payment.settle(attempt, outcome, TEST_NOW, current_token="tok")
        for wrong in ((settled, final), (settled, attempt), (payment, final), (payment, replace(attempt, number=2))):
            with pytest.raises(ValueError, match="not under way"):
                wrong[0].settle(wrong[1], outcome, TEST_NOW, current_token="tok")

    def test_is_tried_again_a_day_after_a_soft_decline_and_so_often_with_each_method(self) -> None:
        payment = a_payment()
        for method in range(3):
            for number in range(1, MAX_SOFT_DECLINES + 1):
                payment, attempt = payment.begin(token="tok", now=REAL_NOW, tenant_now=TEST_NOW)
                payment, _ = payment.settle(attempt, SOFT, TEST_NOW, current_token="tok")
                is_last = number == MAX_SOFT_DECLINES
                assert payment.state == (PaymentState.REQUIRES_METHOD if is_last else PaymentState.SCHEDULED)
                assert payment.next_attempt_at == (None if is_last else TEST_NOW + DAY)
            assert payment.attempt_count == MAX_SOFT_DECLINES * (method + 1)
            payment = payment.with_new_method(TEST_NOW)

    @pytest.mark.parametrize(
        ("current_token", "state"),
        [("", PaymentState.REQUIRES_METHOD), ("tok", PaymentState.REQUIRES_METHOD), ("new", PaymentState.SCHEDULED)],
    )
    def test_is_tried_at_once_with_a_method_that_came_meanwhile(self, current_token: str, state: PaymentState) -> None:
        payment, attempt = under_way()
        settled, _ = payment.settle(attempt, HARD, TEST_NOW, current_token=current_token)
        assert (settled.state, settled.next_attempt_at) == (state, TEST_NOW if state == "scheduled" else None)

    @pytest.mark.parametrize("state", sorted(set(PaymentState) - {PaymentState.REQUIRES_METHOD}))
    def test_does_not_mind_a_new_method_unless_it_waits_for_one(self, state: PaymentState) -> None:
        payment = replace(a_payment(), state=state)
        assert payment.with_new_method(TEST_NOW + DAY) == payment

    @pytest.mark.parametrize("state", PaymentState)
    def test_is_cancelled_unless_money_moved_or_may_have(self, state: PaymentState) -> None:
        payment = replace(a_payment(), state=state)
        if state in (PaymentState.PROCESSING, PaymentState.SUCCEEDED):
            with pytest.raises(PaymentNotCancelable) as refused:
                payment.cancel()
            assert refused.value.metadata == {"paymentId": "pay_1", "state": state.value}
        else:
            assert (payment.cancel().state, payment.cancel().next_attempt_at) == (PaymentState.CANCELED, None)

    def test_rests_on_a_person_until_somebody_gives_a_method(self) -> None:
        payment, attempt = under_way()
        by_gateway, last = payment.settle(attempt, SOFT, TEST_NOW, current_token="tok")
        assert not by_gateway.rests_on_a_person(last)
        by_person, last = payment.settle(replace(attempt, settled_by="jo"), SOFT, TEST_NOW, current_token="tok")
        assert by_person.rests_on_a_person(last)
        assert not by_person.without_method().with_new_method(TEST_NOW).rests_on_a_person(last)
        assert not a_payment().rests_on_a_person(None)

    @pytest.mark.parametrize("state", PaymentState)
    def test_that_is_disputed_is_not_tried_by_itself(self, state: PaymentState) -> None:
        disputed = replace(a_payment(), state=state).disputed()
        scheduled = state is PaymentState.SCHEDULED
        assert disputed.state is (PaymentState.REQUIRES_METHOD if scheduled else state)
        assert (disputed.next_attempt_at is None) == scheduled


class TestAttempt:
    @pytest.mark.parametrize(
        ("stored", "answer", "agrees"),
        [
            (Captured("ch_1", eur(1999)), Captured("ch_1", eur(1999)), True),
            (Captured("ch_1", eur(1999)), Captured("ch_2", eur(1999)), False),
            (Captured("ch_1", eur(1999)), Captured("ch_1", eur(1)), False),
            (Captured("ch_1", eur(1999)), SOFT, False),
            (SOFT, Captured("ch_1", eur(1999)), False),
            (SOFT, HARD, True),
            (HARD, SOFT, True),
        ],
    )
    def test_agrees_with_a_later_answer_about_the_money(
        self, stored: Captured | Declined, answer: Captured | Declined, agrees: bool
    ) -> None:
        _, attempt = under_way()
        assert attempt.settled(stored).agrees_with(answer, eur(1999)) is agrees

    def test_stays_open_until_there_is_an_answer(self) -> None:
        _, attempt = under_way()
        unanswered = attempt.unanswered().unanswered()
        assert (unanswered.state, unanswered.state.final, unanswered.asks) == (AttemptState.UNKNOWN, False, 2)

    def test_may_be_sent_as_long_as_the_gateway_knows_its_key(self) -> None:
        _, attempt = under_way()
        assert attempt.may_be_sent(REAL_NOW + KEY_LIFETIME - timedelta(microseconds=1))
        assert not attempt.may_be_sent(REAL_NOW + KEY_LIFETIME)

    def test_is_asked_for_ever_more_rarely(self) -> None:
        assert [ask_again_after(asks).total_seconds() for asks in range(1, 8)] == [1, 5, 30, 300, 3600, 3600, 3600]

    def test_no_answer_is_none(self) -> None:
        assert known(NoAnswer("timed out")) is None
        assert known(SOFT) is SOFT
