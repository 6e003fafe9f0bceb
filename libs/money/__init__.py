"""Money and exact decimals: parsing, canonical text, rounding to minor units, allocation."""

from libs.money.allocation import allocate
from libs.money.currencies import MINOR_DIGITS
from libs.money.decimals import (
    MAX_INTEGER_DIGITS,
    MAX_SCALE,
    QUANTITY_CONTEXT,
    DecimalRejected,
    exact,
    parse_decimal,
    plain,
)
from libs.money.money import CurrencyMismatch, Money, RoundingMode, round_amount, round_to_minor
from libs.money.plan_change import (
    Adjustment,
    NewPlan,
    PlanFee,
    Rounding,
    Upgrade,
    capped_credit,
    plan_change,
    quantity_change,
    share_of_value,
    upgrade,
)
from libs.money.rounding import (
    MAX_ROUNDING_DIGITS,
    MIN_ROUNDING_DIGITS,
    QUOTIENT_SCALE,
    Exact,
    RoundingFunction,
    round_decimal,
    round_exact,
    to_quotient_scale,
)

__all__ = [
    "MAX_INTEGER_DIGITS",
    "MAX_ROUNDING_DIGITS",
    "MAX_SCALE",
    "MINOR_DIGITS",
    "MIN_ROUNDING_DIGITS",
    "QUANTITY_CONTEXT",
    "QUOTIENT_SCALE",
    "Adjustment",
    "CurrencyMismatch",
    "DecimalRejected",
    "Exact",
    "Money",
    "NewPlan",
    "PlanFee",
    "Rounding",
    "RoundingFunction",
    "RoundingMode",
    "Upgrade",
    "allocate",
    "capped_credit",
    "exact",
    "parse_decimal",
    "plain",
    "plan_change",
    "quantity_change",
    "round_amount",
    "round_decimal",
    "round_exact",
    "round_to_minor",
    "share_of_value",
    "to_quotient_scale",
    "upgrade",
]
