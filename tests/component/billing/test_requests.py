"""Mutations of tenants, keys, clocks, customers and subscriptions: idempotent, isolated, forward only."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import uuid
from datetime import date, datetime, timedelta

import pytest
import sqlalchemy as sa

from libs.database import raw
from libs.errors import InvalidInput, NotFound, RequestIdReused
from libs.periods import Period
from services.billing.domain.clock import ClockNotConfirmed, ClockNotForward, NoTestClock, TestClocksDisabled
from services.billing.domain.customer import CustomerExists, CustomerNotFound
from services.billing.domain.rate_card_facts import RateCardArchived
from services.billing.domain.subscription import BillingAnchor, SubscriptionExists, SubscriptionNotFound
from services.billing.domain.tenant import ApiKeyNotFound, Tenant, TenantExists, TenantNotFound
from services.billing.store.tables import metadata
from services.billing.usecases import preview_invoice
from services.billing.usecases.create_api_key import CreateApiKey, NewSecret
from services.billing.usecases.create_tenant import CreateTenant
from services.billing.usecases.get_customers import ListCustomers
from services.billing.usecases.get_tenants import GetTenant, ListTenants
from services.billing.usecases.list_api_keys import ListApiKeys
from services.billing.usecases.ports import LiveCharges
from services.billing.usecases.revoke_api_key import RevokeApiKey
from tests.component.billing.world import EPOCH, World, a_key, a_request
from tests.unit.billing.fakes import a_charge, utc

JANUARY = utc(2026, 1, 1)


def a_secret() -> NewSecret:
    secret = secrets.token_hex(16)
    return NewSecret(secret[:8], secret, hashlib.sha256(secret.encode()).digest())


class TestTenants:
    async def test_an_id_is_taken_once(self, world: World) -> None:
        await world.add_tenant("acme")
        with pytest.raises(TenantExists):
            await world.add_tenant("acme")

    async def test_a_test_clock_needs_permission(self, world: World) -> None:
        create = CreateTenant(unit_of_work=world.api, directory=world.directory, clock=world.real, test_clocks=False)
        tenant = Tenant("acme", "", 0, False, 1, 1, "INV", EPOCH)
        with pytest.raises(TestClocksDisabled):
            await create(request=a_request("CreateTenant"), tenant=tenant, test_time=JANUARY)
        with pytest.raises(TenantNotFound):
            await GetTenant(unit_of_work=world.api)(tenant_id="acme")

    async def test_the_operator_sees_all_by_id(self, world: World) -> None:
        for tenant_id in ("globex", "acme", "initech"):
            await world.add_tenant(tenant_id)
        list_tenants = ListTenants(queues=world.queues)

        found = await list_tenants(after="acme", limit=10)

        assert [view.tenant.tenant_id for view in found] == ["globex", "initech"]
        assert found[0] == await GetTenant(unit_of_work=world.api)(tenant_id="globex")
        assert await list_tenants(after="initech", limit=10) == []

    async def test_a_wrong_request_names_everything_that_is_wrong(self, world: World) -> None:
        create = CreateTenant(unit_of_work=world.api, directory=world.directory, clock=world.real, test_clocks=True)
        tenant = Tenant("Acme!", "", -1, False, 1, 1, "", EPOCH)
        with pytest.raises(InvalidInput) as caught:
            await create(request=a_request("CreateTenant", request_id="1"), tenant=tenant, test_time=None)
        assert {item.field for item in caught.value.violations} == {
            "request_id",
            "tenant.tenant_id",
            "tenant.invoice_grace_s",
            "tenant.invoice_prefix",
        }


class TestApiKeys:
    async def test_the_secret_is_told_once_and_only_its_hash_is_kept(self, world: World) -> None:
        await world.add_tenant("acme")
        create = self._create(world)
        request = a_request("CreateApiKey")

        first = await create(request=request, tenant_id="acme", display_name="ci")
        again = await create(request=request, tenant_id="acme", display_name="ci")

        assert first.secret
        assert again.secret == ""
        assert again.key == first.key
        assert first.key.secret_hash == hashlib.sha256(first.secret.encode()).digest()
        assert len(await ListApiKeys(unit_of_work=world.api)(tenant_id="acme")) == 1

    async def test_revoking_is_for_good_and_for_ones_own(self, world: World) -> None:
        await world.add_tenant("acme")
        await world.add_tenant("globex")
        key = (await self._create(world)(request=a_request("K"), tenant_id="acme", display_name="")).key
        revoke = RevokeApiKey(unit_of_work=world.api, directory=world.directory, clock=world.real)

        with pytest.raises(ApiKeyNotFound):
            await revoke(request=a_request("RevokeApiKey"), tenant_id="globex", key_id=key.key_id)
        revoked_at = (await revoke(request=a_request("R"), tenant_id="acme", key_id=key.key_id)).revoked_at
        world.real.at += timedelta(days=1)
        again = await revoke(request=a_request("R"), tenant_id="acme", key_id=key.key_id)

        assert revoked_at is not None
        assert again.revoked_at == revoked_at

    async def test_needs_a_tenant(self, world: World) -> None:
        with pytest.raises(TenantNotFound):
            await self._create(world)(request=a_request("K"), tenant_id="nobody", display_name="")

    def _create(self, world: World) -> CreateApiKey:
        return CreateApiKey(unit_of_work=world.api, directory=world.directory, clock=world.real, make_secret=a_secret)


class TestClocks:
    async def test_move_forward_only(self, world: World) -> None:
        await world.add_tenant("acme", JANUARY)

        assert await world.advance("acme", utc(2026, 1, 5)) == utc(2026, 1, 5)
        assert await world.advance("acme", utc(2026, 1, 5)) == utc(2026, 1, 5)
        with pytest.raises(ClockNotForward):
            await world.advance("acme", utc(2026, 1, 4))

    async def test_real_time_cannot_be_moved(self, world: World) -> None:
        await world.add_tenant("acme")
        with pytest.raises(NoTestClock):
            await world.advance("acme", utc(2027, 1, 1))

    async def test_tell_who_has_not_confirmed_although_the_clock_has_moved(self, world: World) -> None:
        await world.add_tenant("acme", JANUARY)
        world.directory.missing = ["rating"]
        with pytest.raises(ClockNotConfirmed) as caught:
            await world.advance("acme", utc(2026, 1, 5))
        assert caught.value.metadata == {"missing": "rating"}
        view = await GetTenant(unit_of_work=world.api)(tenant_id="acme")
        assert view.test_time == utc(2026, 1, 5)

    @pytest.mark.parametrize("to", [utc(2100, 1, 1), utc(9999, 12, 31)])
    async def test_stop_before_a_year_that_no_calendar_or_worker_could_follow(self, world: World, to: datetime) -> None:
        await world.add_tenant("acme", JANUARY)
        with pytest.raises(InvalidInput) as caught:
            await world.advance("acme", to)
        assert [item.field for item in caught.value.violations] == ["time"]
        with pytest.raises(InvalidInput) as caught:
            await world.add_tenant("globex", to)
        assert [item.field for item in caught.value.violations] == ["tenant.test_clock_time"]


class TestSubscriptions:
    async def test_have_their_periods_up_to_the_one_after_the_current(self, world: World) -> None:
        await world.add_tenant("acme", utc(2026, 3, 10))
        await world.add_customer("acme")

        view = await world.subscribe("acme", starts_on=date(2026, 1, 1))

        assert view.current_period == Period(utc(2026, 3, 1), utc(2026, 4, 1))
        async with world.api("acme") as work:
            periods = await work.periods.page("", None, None, 100)
        assert [item.period.start.month for item in periods] == [1, 2, 3, 4]
        assert len({item.version for item in periods}) == 4
        assert min(item.version for item in periods) > 1 << 40

    async def test_start_today_in_the_customers_zone_by_default(self, world: World) -> None:
        await world.add_tenant("acme", utc(2026, 1, 31, 20))
        await world.add_customer("acme", zone="Asia/Tokyo")

        view = await world.subscribe("acme", anchor=BillingAnchor.CALENDAR)

        assert view.subscription.starts_on == date(2026, 2, 1)
        assert view.current_period == Period(utc(2026, 1, 31, 15), utc(2026, 2, 28, 15))

    async def test_need_a_customer_and_a_card(self, world: World) -> None:
        await world.add_tenant("acme", JANUARY)
        with pytest.raises(CustomerNotFound):
            await world.subscribe("acme")
        world.rating.currencies = {}
        with pytest.raises(NotFound) as caught:
            await world.subscribe("acme")
        assert caught.value.reason == "RATE_CARD_NOT_FOUND"

    async def test_need_a_card_that_is_open(self, world: World) -> None:
        await world.add_tenant("acme", JANUARY)
        await world.add_customer("acme")
        world.rating.archived = {"standard"}
        with pytest.raises(RateCardArchived):
            await world.subscribe("acme")
        world.rating.archived = set()
        assert (await world.subscribe("acme")).subscription.rate_card_id == "standard"

    async def test_that_are_there_stay_there_when_their_card_is_closed(self, world: World) -> None:
        await world.add_tenant("acme", JANUARY)
        await world.add_customer("acme")
        request = a_request("CreateSubscription", "", request_id=str(uuid.uuid4()))
        first = await world.subscribe("acme", request=request)
        world.rating.archived = {"standard"}

        assert await world.subscribe("acme", request=request) == first

    async def test_a_request_id_stands_for_one_request(self, world: World) -> None:
        await world.add_tenant("acme", JANUARY)
        await world.add_customer("acme")
        request_id = str(uuid.uuid4())

        for _ in range(2):
            request = a_request("CreateSubscription", "", request_id=request_id)
            view = await world.subscribe("acme", "", request=request)

        other = a_request("CreateSubscription", "other", request_id=request_id)
        with pytest.raises(RequestIdReused):
            await world.subscribe("acme", "other", request=other)
        with pytest.raises(SubscriptionExists):
            await world.subscribe("acme", view.subscription.subscription_id)
        async with world.api("acme") as work:
            assert len(await work.subscriptions.page("", "", 10)) == 1

    async def test_a_canceled_one_is_invoiced_for_its_current_period_and_never_again(self, world: World) -> None:
        await world.add_tenant("acme", JANUARY)
        await world.add_customer("acme")
        await world.subscribe("acme")
        await world.advance("acme", utc(2026, 3, 10))  # The worker has not made March's successor yet.

        view = await world.cancel("acme")
        again = await world.cancel("acme")
        await world.advance("acme", utc(2026, 9, 1))
        await world.bill()

        assert view.subscription.ended_at == again.subscription.ended_at == utc(2026, 4, 1)
        assert [invoice.period.start.month for invoice in await world.invoices("acme")] == [1, 2, 3]
        with pytest.raises(SubscriptionNotFound):
            await world.cancel("acme", "unknown")

    async def test_one_that_is_canceled_while_the_clock_moves_ends_before_or_after_that(self, world: World) -> None:
        """Not in between: a period that begins after the end must not have become due meanwhile."""
        await world.add_tenant("acme", JANUARY)
        await world.add_customer("acme")
        await world.subscribe("acme")

        async with world.api("acme") as work:
            await work.subscriptions.lock(["sub-01"])  # Canceling has read the clock by then.
            canceling = asyncio.create_task(world.cancel("acme"))
            await asyncio.sleep(0.2)
            advancing = asyncio.create_task(world.advance("acme", utc(2026, 3, 10)))
            await asyncio.sleep(0.2)
            assert not canceling.done()
            assert not advancing.done()
        view = await canceling
        await advancing
        await world.bill()

        assert view.subscription.ended_at == utc(2026, 2, 1)
        assert [invoice.period.start.month for invoice in await world.invoices("acme")] == [1]


class TestSpend:
    async def test_is_of_the_open_period_of_each_subscription(self, world: World) -> None:
        await world.add_tenant("acme", JANUARY)
        await world.add_customer("acme")
        for number in range(3):
            await world.subscribe("acme", f"sub-{number}")
        await world.cancel("acme", "sub-0")
        february = a_key(utc(2026, 2, 1), "sub-1")
        await world.apply("acme", [a_charge(february, amount="3"), a_charge(a_key(JANUARY, "sub-1"), amount="50")])
        await world.advance("acme", utc(2026, 2, 10))

        spend = await self._spend(world)

        assert [(item.subscription_id, item.total.minor_units) for item in spend.invoices] == [
            ("sub-1", 300),
            ("sub-2", 0),
        ]
        assert {item.period.start for item in spend.invoices} == {utc(2026, 2, 1)}

    async def test_is_live_where_rating_can_tell(self, world: World) -> None:
        await world.add_tenant("acme", JANUARY)
        await world.add_customer("acme")
        keys = [a_key(JANUARY, f"sub-{number}") for number in range(3)]
        for key in keys:
            await world.subscribe("acme", key.subscription_id)
        await world.apply("acme", [a_charge(key, amount="3") for key in keys])
        january, shorter = Period(JANUARY, utc(2026, 2, 1)), Period(JANUARY, utc(2026, 1, 20))
        world.rating.live = [
            LiveCharges(keys[0], january, [a_charge(keys[0], amount="7")._replace(version=0)]),
            LiveCharges(keys[1], shorter, [a_charge(keys[1], amount="8")._replace(version=0)]),
            LiveCharges(a_key(JANUARY, "unknown"), january, []),
        ]

        spend = await self._spend(world)

        assert [item.total.minor_units for item in spend.invoices] == [700, 300, 300]
        assert spend.live == {keys[0]}
        async with world.api("acme") as work:
            stored = await work.charges.of(keys[:1])
        assert [charge.amount for charge in stored[keys[0]]] == [3], "what is shown live is not stored"

    async def test_is_as_rated_last_while_rating_is_away(self, world: World) -> None:
        await world.add_tenant("acme", JANUARY)
        await world.add_customer("acme")
        await world.subscribe("acme")
        await world.apply("acme", [a_charge(a_key(JANUARY), amount="3")])
        world.rating.is_away = True

        spend = await self._spend(world)

        assert [item.total.minor_units for item in spend.invoices] == [300]
        assert not spend.live

    async def test_is_refused_rather_than_told_in_part(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        await world.add_tenant("acme", JANUARY)
        await world.add_customer("acme")
        for number in range(3):
            await world.subscribe("acme", f"sub-{number}")
        monkeypatch.setattr(preview_invoice, "SUBSCRIPTIONS_MAX", 2)

        with pytest.raises(preview_invoice.TooManySubscriptions):
            await self._spend(world)
        await world.cancel("acme", "sub-0")
        await world.advance("acme", utc(2026, 2, 10))
        assert len((await self._spend(world)).invoices) == 2

    async def _spend(self, world: World) -> preview_invoice.CurrentSpend:
        get = preview_invoice.GetCurrentSpend(unit_of_work=world.api, rating=world.rating, clock=world.real)
        return await get(tenant_id="acme", customer_id="cust-01")


class TestIsolation:
    async def test_a_tenant_sees_its_own_only(self, world: World) -> None:
        for tenant_id in ("acme", "globex"):
            await world.add_tenant(tenant_id, JANUARY)
        await world.add_customer("acme")
        with pytest.raises(CustomerExists):
            await world.add_customer("acme")
        await world.add_customer("globex")

        assert len(await ListCustomers(unit_of_work=world.api)(tenant_id="globex", after="", limit=10)) == 1
        async with world.api_database.transaction("globex") as connection:
            rows = await (await raw(connection)).fetch("SELECT tenant_id FROM customers")
        assert {row["tenant_id"] for row in rows} == {"globex"}

    async def test_row_security_is_forced_on_every_table_but_the_queues(self, world: World) -> None:
        async with world.api_database.transaction("acme") as connection:
            rows = await (await raw(connection)).fetch(
                "SELECT relname, relrowsecurity AND relforcerowsecurity AS forced FROM pg_class "
                "WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'"
            )
        assert {row["relname"] for row in rows if not row["forced"]} == {
            "clocks",
            "due_periods",
            "due_extensions",
            "rating_watermark",
            "received_watermarks",
            "holds",
            "billing_period_marks",
            "directory_marks",
            "outbox_fact_queue",
            "outbox_leases",
            "parked_queue",
        }

    async def test_the_tables_are_what_the_code_believes(self, world: World) -> None:
        async with world.api_database.transaction("acme") as connection:
            rows = (
                await connection.execute(
                    sa.text(
                        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
                    )
                )
            ).all()
        found: dict[str, set[str]] = {}
        for table, column in rows:
            found.setdefault(table, set()).add(column)
        found.pop("alembic_version")
        assert found == {table.name: {column.name for column in table.c} for table in metadata.tables.values()}
