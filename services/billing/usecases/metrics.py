"""What billing tells its operators in numbers."""

from __future__ import annotations

from libs.telemetry import meter

_METER = meter("steelyard.billing")

INVOICES_ISSUED = _METER.counter(
    "steelyard.invoices.issued", unit="{invoice}", description="Invoices that became final."
)
PERIODS_SET_ASIDE = _METER.counter(
    "steelyard.billing_periods.set_aside",
    unit="{period}",
    description="Times that a due billing period could not be invoiced and was put back.",
)
DUE_PERIODS = _METER.gauge(
    "steelyard.billing_periods.due",
    unit="{period}",
    description="Billing periods that are over, grace included, and not invoiced, of all tenants.",
)
WATERMARK_AGE = _METER.gauge(
    "steelyard.billing.watermark.age", unit="s", description="How far rating's watermark, as counted here, is behind."
)
