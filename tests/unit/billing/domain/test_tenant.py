from __future__ import annotations

from dataclasses import replace

import pytest

from libs.clock import TenantClock
from services.billing.domain.clock import ClockNotForward, NoTestClock, check_forward
from services.billing.domain.customer import Customer
from services.billing.domain.tenant import Tenant
from tests.unit.billing.fakes import utc

ACME = Tenant("acme", "Acme", 3600, False, 100, 100, "INV", utc(2026, 1, 1))


class TestTenant:
    def test_is_fine(self) -> None:
        assert list(ACME.violations()) == []
        assert ACME.invoice_number(7) == "INV-000007"
        assert ACME.invoice_number(12_345_678) == "INV-12345678"

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"tenant_id": "Acme"}, "tenant.tenant_id"),
            ({"display_name": "a\nb"}, "tenant.display_name"),
            ({"invoice_grace_s": -1}, "tenant.invoice_grace_s"),
            ({"event_past_limit_s": 366 * 86_400 + 1}, "tenant.event_past_limit_s"),
            ({"invoice_prefix": "-X"}, "tenant.invoice_prefix"),
            ({"invoice_prefix": "X-"}, "tenant.invoice_prefix"),
            ({"invoice_prefix": "X" * 17}, "tenant.invoice_prefix"),
        ],
    )
    def test_names_what_is_wrong(self, changes: dict[str, object], field: str) -> None:
        assert [item.field for item in replace(ACME, **changes).violations()] == [field]  # type: ignore[arg-type]


class TestCustomer:
    @pytest.mark.parametrize(
        ("customer_id", "zone", "fields"),
        [
            ("any printable ö", "Europe/Berlin", []),
            ("x" * 129, "UTC", ["customer.customer_id"]),
            ("", "Mars/Olympus", ["customer.customer_id", "customer.time_zone"]),
        ],
    )
    def test_names_what_is_wrong(self, customer_id: str, zone: str, fields: list[str]) -> None:
        customer = Customer(customer_id, "", zone, utc(2026, 1, 1))
        assert [item.field for item in customer.violations()] == fields


class TestClock:
    def test_stands_or_goes_forward(self) -> None:
        clock = TenantClock("acme", utc(2026, 1, 2), 1)
        check_forward(clock, utc(2026, 1, 2))
        check_forward(clock, utc(2026, 1, 3))
        with pytest.raises(ClockNotForward):
            check_forward(clock, utc(2026, 1, 1))

    def test_of_real_time_cannot_be_moved(self) -> None:
        with pytest.raises(NoTestClock):
            check_forward(TenantClock("acme", None, 1), utc(2026, 1, 3))
