"""What acceptors learn from the directory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from libs.directory import KnownClocks
from libs.messaging import UnreadableMessage
from services.ingest.domain.door import DEFAULT_PAST_LIMIT
from services.ingest.messaging.known_tenants import KnownTenants
from steelyard.billing.v1 import directory_pb2 as billing_pb2
from steelyard.ingest.v1 import directory_pb2, meter_pb2

NOW = datetime(2026, 3, 10, tzinfo=UTC)
TENANTS_NOW = NOW + timedelta(days=400)


class Directory:
    """Applies entries as the reader does."""

    def __init__(self) -> None:
        self.tenants = KnownTenants(KnownClocks(lambda: TENANTS_NOW), lambda: NOW)
        self._appliers = self.tenants.appliers()

    def tenant(self, version: int, past_limit_s: int, strict: bool = False) -> None:
        entry = billing_pb2.TenantEntry(
            tenant_id="acme", version=version, event_past_limit_s=past_limit_s, reject_unknown_customers=strict
        )
        self._appliers["tenant"](("acme",), entry.SerializeToString(), version)

    def meter(self, expression: str, version: int = 1, archived_at: datetime | None = None) -> None:
        meter = meter_pb2.Meter(
            meter_id="m",
            event_type="t",
            aggregation=meter_pb2.AGGREGATION_SUM,
            expression=expression,
            version=version,
        )
        if archived_at is not None:
            meter.archive_time.FromDatetime(archived_at)
        entry = directory_pb2.MeterEntry(tenant_id="acme", meter=meter)
        self._appliers["meter"](("acme", "m"), entry.SerializeToString(), 1)

    def customer(self, customer_id: str, payload: bytes | None = b"") -> None:
        self._appliers["customer"](("acme", customer_id), payload, 1)


class TestRules:
    def test_of_an_unknown_tenant_are_the_defaults(self) -> None:
        rules = Directory().tenants.rules("nobody")

        assert (rules.policy.past_limit, rules.meters, rules.tenant_now) == (DEFAULT_PAST_LIMIT, (), TENANTS_NOW)

    def test_are_those_of_the_highest_version(self) -> None:
        directory = Directory()
        directory.tenant(version=2, past_limit_s=60)
        directory.tenant(version=1, past_limit_s=3_600)

        assert directory.tenants.rules("acme").policy.past_limit == timedelta(seconds=60)

    def test_an_absurd_limit_does_not_overflow_the_calendar(self) -> None:
        directory = Directory()
        directory.tenant(version=1, past_limit_s=1 << 62)

        assert NOW - directory.tenants.rules("acme").policy.past_limit < NOW

    def test_a_strict_tenant_learns_of_customers_that_come_later(self) -> None:
        directory = Directory()
        directory.tenant(version=1, past_limit_s=60, strict=True)
        known = directory.tenants.rules("acme").policy.known_customers
        assert known is not None
        assert "new" not in known

        directory.customer("new")
        assert "new" in known
        directory.customer("new", None)
        assert "new" not in known

    def test_have_the_tenants_meters(self) -> None:
        directory = Directory()
        directory.meter("tokens")

        assert [meter.expression for meter in directory.tenants.rules("acme").meters] == ["tokens"]
        assert directory.tenants.rules("beta").meters == ()

    def test_have_a_meter_until_the_real_instant_at_which_it_is_archived(self) -> None:
        directory = Directory()
        directory.meter("tokens", version=2, archived_at=NOW + timedelta(microseconds=1))
        assert [meter.version for meter in directory.tenants.rules("acme").meters] == [2]

        directory.meter("tokens", version=3, archived_at=NOW)
        assert list(directory.tenants.rules("acme").meters) == []

    def test_have_the_newest_version_whatever_comes_last(self) -> None:
        directory = Directory()
        directory.meter("tokens", version=2)
        directory.meter("tokens", version=1)

        assert [meter.version for meter in directory.tenants.rules("acme").meters] == [2]

    def test_a_meter_that_nobody_can_compile_is_left_out(self) -> None:
        with pytest.raises(UnreadableMessage):
            Directory().meter("tokens +")
