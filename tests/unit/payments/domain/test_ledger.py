from __future__ import annotations

import pytest

from libs.money import Money
from services.payments.domain import ledger
from services.payments.domain.ledger import LedgerEntry, LedgerTransaction, UnbalancedTransaction
from tests.unit.payments.world import TEST_NOW, eur


class TestLedgerTransaction:
    @pytest.mark.parametrize(
        "amounts", [[], [eur(1)], [eur(1), eur(-2)], [eur(1), Money(-1, "USD")], [eur(1), eur(-1), Money(1, "USD")]]
    )
    def test_adds_up_to_zero_in_each_currency(self, amounts: list[Money]) -> None:
        entries = tuple(LedgerEntry("gateway", amount) for amount in amounts)
        with pytest.raises(UnbalancedTransaction):
            LedgerTransaction("acme", "t", "k", "inv_1", entries, TEST_NOW)


class TestPostings:
    def test_are_named_by_what_caused_them_so_that_they_post_once(self) -> None:
        issued = ledger.invoice_issued("acme", "inv_1", "cust-01", eur(5), TEST_NOW)
        voided = ledger.invoice_voided("acme", "inv_1", "cust-01", eur(5), TEST_NOW)
        assert (issued.transaction_id, voided.transaction_id) == ("invoice_issued:inv_1", "invoice_voided:inv_1")

    def test_a_void_reverses_the_invoice(self) -> None:
        issued = ledger.invoice_issued("acme", "inv_1", "cust-01", eur(5), TEST_NOW)
        voided = ledger.invoice_voided("acme", "inv_1", "cust-01", eur(5), TEST_NOW)
        assert issued.entries == (LedgerEntry("receivable", eur(5), "cust-01"), LedgerEntry("revenue", eur(-5)))
        assert voided.entries == (LedgerEntry("revenue", eur(5)), LedgerEntry("receivable", eur(-5), "cust-01"))
