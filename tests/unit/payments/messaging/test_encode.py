from __future__ import annotations

from services.payments.domain.events import PaymentFailed, PaymentSucceeded
from services.payments.domain.gateway import Captured, Declined
from services.payments.messaging.encode import encode_fact
from steelyard.payments.v1 import events_pb2
from tests.unit.payments.domain.test_payment import under_way
from tests.unit.payments.world import TEST_NOW, eur


class TestFacts:
    def test_a_capture_is_told_once_for_a_payment(self) -> None:
        payment, attempt = under_way()
        settled, _ = payment.settle(attempt, Captured("ch_1", eur(1999)), TEST_NOW, current_token="tok")
        fact = encode_fact(PaymentSucceeded(settled, TEST_NOW))
        assert (fact.event_id, fact.subject) == ("acme:payment-succeeded:pay_1", "payments.payment.succeeded.v1")
        message = events_pb2.PaymentSucceeded.FromString(fact.payload)
        assert (message.invoice_id, message.amount.minor_units, message.amount.currency) == ("inv_1", 1999, "EUR")

    def test_a_decline_is_told_for_each_attempt_and_says_whether_another_follows(self) -> None:
        payment, attempt = under_way()
        for hard in (False, True):
            settled, final = payment.settle(attempt, Declined("no", hard), TEST_NOW, current_token="tok")
            fact = encode_fact(PaymentFailed(settled, final, TEST_NOW))
            assert (fact.event_id, fact.subject) == ("acme:payment-failed:pay_1:1", "payments.payment.failed.v1")
            message = events_pb2.PaymentFailed.FromString(fact.payload)
            assert (message.attempt_number, message.decline_code, message.will_retry) == (1, "no", not hard)
