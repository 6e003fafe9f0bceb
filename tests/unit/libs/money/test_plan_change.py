"""Credits and charges for changes in the middle of a period."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.money import (
    Adjustment,
    Exact,
    NewPlan,
    PlanFee,
    RoundingFunction,
    capped_credit,
    plan_change,
    quantity_change,
    round_exact,
    upgrade,
)

D = Decimal


def cents(value: Exact) -> Decimal:
    return round_exact(value, RoundingFunction.ROUND, 2)


def fee(amount: str, quantity: str = "1") -> PlanFee:
    return PlanFee(D(amount), D(quantity))


class TestPlanChange:
    def test_gives_back_what_is_left_and_charges_the_same_share(self) -> None:
        found = plan_change(fee("50", "2"), fee("30"), Fraction(17, 31), cents)

        assert (found.credit, found.charge, found.net) == (D("-54.84"), D("16.45"), D("-38.39"))

    def test_a_new_interval_is_due_in_full(self) -> None:
        found = plan_change(fee("100"), fee("1000"), Fraction(1, 2), cents, NewPlan.WHOLE_PERIOD)

        assert (found.credit, found.charge) == (D(-50), D(1000))

    def test_what_is_added_has_no_credit_and_what_ends_no_charge(self) -> None:
        assert plan_change(None, fee("10"), Fraction(1, 2), cents) == Adjustment(D(0), D(5))
        assert plan_change(fee("10"), None, Fraction(1, 2), cents) == Adjustment(D(-5), D(0))

    @given(st.decimals(0, 10**6, places=2), st.fractions(0, 1))
    def test_the_same_plan_again_costs_nothing(self, amount: Decimal, rest: Fraction) -> None:
        assert plan_change(PlanFee(amount, D(1)), PlanFee(amount, D(1)), rest, cents).net == 0

    @pytest.mark.parametrize(
        ("percent_off", "amount_off", "amount"), [("25", "0", "75"), ("0", "30", "70"), ("0", "130", "0")]
    )
    def test_a_discount_comes_off_first(self, percent_off: str, amount_off: str, amount: str) -> None:
        discounted = PlanFee(D(20), D(5), D(percent_off), D(amount_off))

        assert discounted.amount == D(amount)
        assert plan_change(discounted, None, Fraction(1, 2), cents).credit == -D(amount) / 2


def test_a_change_of_quantity_is_one_amount() -> None:
    assert quantity_change(D(10), D(5), D(8), Fraction(1, 3), cents) == 10
    assert quantity_change(D(10), D(8), D(5), Fraction(1, 3), cents) == -10


def test_an_upgrade_is_less_what_was_paid_for_the_same_days() -> None:
    found = upgrade(D(40), Fraction(21, 31), D(20), Fraction(1), cents)

    assert (found.new_prorated, found.already_paid, found.amount) == (D("27.10"), D(20), D("7.10"))


@given(st.decimals(-100, 100, places=2), st.decimals(0, 100, places=2), st.decimals(0, 100, places=2))
def test_credits_never_exceed_what_was_paid(potential: Decimal, paid: Decimal, before: Decimal) -> None:
    credit = capped_credit(potential, paid, before)

    assert 0 <= credit <= max(D(0), potential)
    assert credit + min(before, paid) <= paid
