"""Vectors about parts of periods, and about when periods begin and end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.vectors.proration.amounts import (
    credit_cap,
    fraction,
    minimum_commitment,
    plan_change,
    prorated_amount,
    prorated_cycles_amount,
    quantity_change,
    upgrade_net_of_billed,
    upgrade_offset,
)
from tests.vectors.proration.dates import (
    add_month,
    advance_period,
    arrears_period,
    billing_cycles,
    billing_periods,
    day_count,
    elapsed_cycles,
    month_starts,
    next_billing_date,
    period_at,
)

RUNNERS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "add_month": add_month,
    "advance_period": advance_period,
    "arrears_period": arrears_period,
    "billing_cycles": billing_cycles,
    "billing_periods": billing_periods,
    "credit_cap": credit_cap,
    "day_count": day_count,
    "elapsed_cycles": elapsed_cycles,
    "fraction": fraction,
    "minimum_commitment": minimum_commitment,
    "month_starts": month_starts,
    "next_billing_date": next_billing_date,
    "period_at": period_at,
    "plan_change": plan_change,
    "prorated_amount": prorated_amount,
    "prorated_cycles_amount": prorated_cycles_amount,
    "quantity_change": quantity_change,
    "upgrade_net_of_billed": upgrade_net_of_billed,
    "upgrade_offset": upgrade_offset,
}
