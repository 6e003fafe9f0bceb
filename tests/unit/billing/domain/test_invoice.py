from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.money import RoundingMode
from libs.periods import Period
from services.billing.domain.charge import PeriodKey, newest
from services.billing.domain.invoice import (
    MINOR_UNITS_MAX,
    Invoice,
    InvoiceNotDraft,
    InvoiceNotIssued,
    InvoiceState,
    LineRefused,
    lines_from_charges,
)
from tests.unit.billing.fakes import a_charge, utc

KEY = PeriodKey("sub-01", utc(2026, 1, 1))
NOW = utc(2026, 2, 1)


def a_draft(*amounts: str) -> Invoice:
    draft = Invoice("inv_1", "cust-01", "sub-01", Period(utc(2026, 1, 1), NOW), 1, "EUR")
    charges = [a_charge(KEY, price_id=f"p{index}", amount=amount) for index, amount in enumerate(amounts)]
    return draft.with_lines(lines_from_charges(charges, "EUR"))


def an_issued_invoice(*amounts: str) -> Invoice:
    return a_draft(*amounts or ("5",)).issue(invoice_number="INV-000001", now=NOW)


class TestLines:
    @pytest.mark.parametrize(
        ("mode", "minor_units"),
        [
            (RoundingMode.HALF_EVEN, 1234),
            (RoundingMode.HALF_UP, 1235),
            (RoundingMode.DOWN, 1234),
            (RoundingMode.UP, 1235),
        ],
    )
    def test_are_rounded_once_by_the_mode_of_their_charge(self, mode: RoundingMode, minor_units: int) -> None:
        [line] = lines_from_charges([a_charge(KEY, amount="12.345", rounding_mode=mode)], "EUR")
        assert (line.amount.minor_units, line.exact_amount) == (minor_units, Decimal("12.345"))

    def test_stand_in_the_order_of_the_card(self) -> None:
        charges = [a_charge(KEY, price_id=name, position=place) for name, place in (("b", 1), ("z", 0), ("a", 1))]
        assert [line.price_id for line in lines_from_charges(charges, "EUR")] == ["z", "a", "b"]

    def test_of_another_currency_are_refused(self) -> None:
        with pytest.raises(LineRefused, match="USD"):
            lines_from_charges([a_charge(KEY, currency="USD")], "EUR")

    def test_that_no_message_can_hold_are_refused(self) -> None:
        largest = Decimal(MINOR_UNITS_MAX).scaleb(-2)
        assert lines_from_charges([a_charge(KEY, amount=str(largest))], "EUR")[0].amount.minor_units == MINOR_UNITS_MAX
        with pytest.raises(LineRefused):
            lines_from_charges([a_charge(KEY, amount=str(largest + Decimal("0.01")))], "EUR")
        with pytest.raises(LineRefused):
            a_draft(str(largest), "0.01")

    @given(st.lists(st.decimals(min_value=-1000, max_value=1000, places=6), max_size=20))
    def test_add_up_to_the_total_to_the_cent(self, amounts: list[Decimal]) -> None:
        invoice = a_draft(*(format(amount, "f") for amount in amounts))
        assert invoice.total_minor == sum(line.amount.minor_units for line in invoice.lines)
        assert all(abs(line.amount.amount - line.exact_amount) <= Decimal("0.005") for line in invoice.lines)


class TestStates:
    def test_a_draft_is_issued(self) -> None:
        issued = an_issued_invoice("5")
        assert (issued.state, issued.invoice_number, issued.issued_at) == (InvoiceState.ISSUED, "INV-000001", NOW)

    @pytest.mark.parametrize("amounts", [("0.004",), (), ("-3",)])
    def test_with_nothing_to_collect_it_is_paid_at_once(self, amounts: tuple[str, ...]) -> None:
        paid = a_draft(*amounts).issue(invoice_number="INV-000001", now=NOW)
        assert (paid.state, paid.paid_at, paid.payment_id) == (InvoiceState.PAID, NOW, "")

    def test_issued_becomes_paid_or_void(self) -> None:
        paid = an_issued_invoice().pay(now=NOW, payment_id="pay_1")
        void = an_issued_invoice().void(reason="wrong", now=NOW)
        assert (paid.state, paid.payment_id) == (InvoiceState.PAID, "pay_1")
        assert (void.state, void.void_reason, void.invoice_number) == (InvoiceState.VOID, "wrong", "INV-000001")

    @pytest.mark.parametrize(
        "invoice",
        [
            a_draft("5"),
            an_issued_invoice().pay(now=NOW),
            an_issued_invoice().void(reason="x", now=NOW),
        ],
        ids=lambda invoice: str(invoice.state),
    )
    def test_nothing_else_is_paid_or_voided(self, invoice: Invoice) -> None:
        with pytest.raises(InvoiceNotIssued):
            invoice.pay(now=NOW)
        with pytest.raises(InvoiceNotIssued):
            invoice.void(reason="x", now=NOW)

    def test_once_issued_it_is_final(self) -> None:
        with pytest.raises(InvoiceNotDraft):
            an_issued_invoice().issue(invoice_number="INV-000002", now=NOW)
        with pytest.raises(InvoiceNotDraft):
            an_issued_invoice().with_lines([])


class TestNewestCharges:
    @given(st.permutations([1, 2, 3, 4, 5]))
    def test_are_the_highest_versions_whatever_the_order(self, versions: list[int]) -> None:
        [kept] = newest(a_charge(KEY, version=version) for version in versions).values()
        assert kept.version == 5
