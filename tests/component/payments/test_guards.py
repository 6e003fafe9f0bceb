"""What the database refuses, whatever code runs."""

from __future__ import annotations

from datetime import timedelta

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from libs.database import Database, raw, sqlstate
from services.payments.domain.manual_settlement import ManualOutcome
from services.payments.domain.payment import PaymentState
from services.payments.store import tables
from services.payments.store.unit_of_work import PostgresUnitOfWork
from services.payments.usecases.get_payments import GetLedger
from tests.component.payments.conftest import Logins
from tests.unit.payments.fakes import Trouble
from tests.unit.payments.world import ACME, REAL_NOW, FakeGatewayWorld, issued

TENANT_TABLES = sorted(
    {table.name for table in tables.metadata.sorted_tables} - {"payment_tasks", "outbox_fact_queue", "parked_queue"}
)
POSTED = (
    "INSERT INTO ledger_transactions (tenant_id, transaction_id, kind, invoice_id, posted_at) "
    "VALUES ('acme', 't', 'k', 'i', now())"
)
ENTRY = "INSERT INTO ledger_entries VALUES ('acme', 't', {number}, '{account}', '', '{currency}', {minor_units})"
CHECK_VIOLATION, PRIVILEGE = "23514", "42501"


@pytest.fixture
async def paid(world: FakeGatewayWorld) -> None:
    await world.set_method("ok")
    await world.hear(issued())
    await world.set_method("ok", tenant_id="beta")
    await world.hear(issued(tenant_id="beta"))
    await world.collect()


async def run(database: Database, *statements: str, tenant_id: str = ACME) -> None:
    async with database.transaction(tenant_id) as connection:
        for statement in statements:
            await connection.execute(sa.text(statement))


async def settle_by_hand(world: FakeGatewayWorld) -> None:
    await world.hear(issued("inv_by_hand"))
    world.gateway.trouble = [Trouble(lost=True)]
    await world.collect()
    await world.settle(ManualOutcome.CAPTURED, "ch_by_hand", invoice_id="inv_by_hand")


class TestManualSettlements:
    async def test_say_who_settled_what_and_why(self, logins: Logins, world: FakeGatewayWorld, paid: None) -> None:
        await settle_by_hand(world)
        query = "SELECT outcome, gateway_reference, reason, actor, settled_at FROM manual_settlements"
        async with logins.worker.transaction(ACME) as connection:
            [kept] = [tuple(row) for row in await (await raw(connection)).fetch(query)]
        assert kept == ("captured", "ch_by_hand", "seen in the gateway's console", "jo", REAL_NOW)

    async def test_announce_the_payment_and_post_as_an_answer_does(
        self, logins: Logins, world: FakeGatewayWorld, paid: None
    ) -> None:
        await settle_by_hand(world)
        query = "SELECT event_id FROM outbox_facts WHERE subject = 'payments.payment.succeeded.v1'"
        async with logins.worker.transaction(ACME) as connection:
            announced = {row["event_id"] for row in await (await raw(connection)).fetch(query)}
        payments = [payment for payment, _ in await world.payments()]
        assert announced == {f"acme:payment-succeeded:{payment.payment_id}" for payment in payments}
        pages = [
            await GetLedger(world.api).page(ACME, invoice_id=invoice_id, before="", limit=1)
            for invoice_id in ("inv_1", "inv_by_hand")
        ]
        [[by_answer], [by_hand]] = pages
        assert (by_hand.kind, by_hand.entries) == (by_answer.kind, by_answer.entries)
        assert by_hand.transaction_id == "payment_captured:inv_by_hand"


class TestTheLedger:
    @pytest.mark.parametrize("table", ["ledger_transactions", "ledger_entries", "manual_settlements"])
    @pytest.mark.parametrize(
        "change", ["UPDATE {table} SET tenant_id = 'acme'", "DELETE FROM {table}", "TRUNCATE {table} CASCADE"]
    )
    async def test_only_grows(self, logins: Logins, paid: None, table: str, change: str) -> None:
        statement = change.format(table=table)
        for database in (logins.api, logins.worker):
            with pytest.raises(DBAPIError) as refused:
                await run(database, statement)
            assert sqlstate(refused.value) == PRIVILEGE
        owner = await asyncpg.connect(logins.database.owner_url)
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await owner.execute(statement)
        await owner.close()

    @pytest.mark.parametrize(
        "entries",
        [
            [],
            [("gateway", "EUR", 5)],
            [("gateway", "EUR", 5), ("receivable", "EUR", -4)],
            [("gateway", "EUR", 5), ("receivable", "USD", -5)],
        ],
    )
    async def test_takes_no_transaction_that_does_not_balance(
        self, logins: Logins, entries: list[tuple[str, str, int]]
    ) -> None:
        statements = [
            ENTRY.format(number=number, account=account, currency=currency, minor_units=minor_units)
            for number, (account, currency, minor_units) in enumerate(entries)
        ]
        with pytest.raises(DBAPIError) as refused:
            await run(logins.worker, POSTED, *statements)
        assert sqlstate(refused.value) == CHECK_VIOLATION

    async def test_takes_no_unbalanced_transaction_that_is_hidden_from_the_check(self, logins: Logins) -> None:
        entry = ENTRY.format(number=0, account="gateway", currency="EUR", minor_units=5)
        with pytest.raises(DBAPIError) as refused:
            await run(logins.worker, POSTED, entry, "SELECT set_config('app.tenants', 'beta', true)")
        assert sqlstate(refused.value) == CHECK_VIOLATION

    async def test_takes_one_that_balances(self, logins: Logins, world: FakeGatewayWorld) -> None:
        sides = [("gateway", 5), ("receivable", -5)]
        entries = [
            ENTRY.format(number=number, account=account, currency="EUR", minor_units=minor_units)
            for number, (account, minor_units) in enumerate(sides)
        ]
        await run(logins.worker, POSTED, *entries)
        assert await world.balances() == dict(sides)


class TestMoney:
    async def test_is_never_captured_beyond_the_invoice_and_one_bad_payment_does_not_stop_the_others(
        self, logins: Logins, world: FakeGatewayWorld, caplog: pytest.LogCaptureFixture
    ) -> None:
        await world.set_method("ok")
        await world.hear(*(issued(f"inv_{number}") for number in range(5)))
        await run(logins.worker, "UPDATE invoices SET captured_minor_units = 1 WHERE invoice_id = 'inv_3'")

        assert await world.collect() == 5

        states = {payment.invoice_id: payment.state for payment, _ in await world.payments()}
        assert states.pop("inv_3") is PaymentState.PROCESSING
        assert set(states.values()) == {PaymentState.SUCCEEDED}
        assert "cannot be handled" in caplog.text
        assert await world.balances() == {"gateway": 4 * 1999, "receivable": 1999, "revenue": -5 * 1999}
        await run(logins.worker, "UPDATE invoices SET captured_minor_units = 0 WHERE invoice_id = 'inv_3'")
        await world.claims_run_out()
        assert (await world.payment("inv_3"))[0].state is PaymentState.SUCCEEDED
        assert len(world.gateway.charges) == 5

    async def test_has_one_live_payment_for_an_invoice(self, logins: Logins, paid: None) -> None:
        again = (
            "INSERT INTO payments SELECT tenant_id, 'pay_2', invoice_id, invoice_number, customer_id, currency, "
            "amount_minor_units, 'scheduled', created_at, NULL, 0, 0, '' FROM payments"
        )
        with pytest.raises(DBAPIError, match="payments_one_live_per_invoice"):
            await run(logins.worker, again)

    async def test_of_one_charge_pays_one_invoice(self, logins: Logins, world: FakeGatewayWorld, paid: None) -> None:
        await settle_by_hand(world)
        with pytest.raises(DBAPIError, match="payment_attempts_one_per_charge"):
            await run(logins.worker, "UPDATE payment_attempts SET gateway_charge_id = 'ch_by_hand'")

    async def test_has_one_attempt_under_way_or_captured(self, logins: Logins, paid: None) -> None:
        again = (
            "INSERT INTO payment_attempts SELECT tenant_id, payment_id, 2, 'key', customer_id, gateway_token, "
            "'created', created_at, tried_at, '', '', 0, '' FROM payment_attempts"
        )
        with pytest.raises(DBAPIError, match="payment_attempts_one_open"):
            await run(logins.worker, again)


class TestTenants:
    async def test_are_apart_in_every_table(self, logins: Logins, world: FakeGatewayWorld, paid: None) -> None:
        await settle_by_hand(world)
        await world.cancel("inv_9", tenant_id="beta")
        filled = set()
        for table in TENANT_TABLES:
            for database, tenants in (
                (logins.api, ["acme"]),
                (logins.api, ["beta"]),
                (logins.worker, ["beta", "none"]),
            ):
                async with database.transaction(*tenants) as connection:
                    found = await connection.execute(sa.text(f"SELECT DISTINCT tenant_id FROM {table}"))
                    seen = set(found.scalars())
                assert seen <= set(tenants), table
                filled |= {table} if seen else set()
            async with logins.worker.queue_transaction() as connection:
                assert (await connection.execute(sa.text(f"SELECT count(*) FROM {table}"))).scalar_one() == 0
        assert filled == {*TENANT_TABLES} - {"parked_messages"}

    async def test_every_table_but_the_queues_has_forced_row_security(self, logins: Logins) -> None:
        query = (
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') "
            "AND NOT (relrowsecurity AND relforcerowsecurity)"
        )
        async with logins.worker.queue_transaction() as connection:
            open_tables = {row["relname"] for row in await (await raw(connection)).fetch(query)}
        assert open_tables == {"alembic_version", "payment_tasks", "outbox_fact_queue", "parked_queue"}

    async def test_cannot_write_for_each_other(self, logins: Logins, world: FakeGatewayWorld) -> None:
        work = PostgresUnitOfWork(logins.worker, lambda _fact: pytest.fail("no fact"))
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with work("beta") as transaction:
                await transaction.invoices.add([issued()])


class TestTheSchema:
    async def test_is_that_of_the_tables(self, logins: Logins) -> None:
        query = (
            "SELECT table_name, column_name, is_nullable FROM information_schema.columns WHERE table_schema = 'public'"
        )
        async with logins.worker.queue_transaction() as connection:
            found = {tuple(row) for row in await (await raw(connection)).fetch(query)}
        own = {"alembic_version", "sandbox_gateway_charges"}
        expected = {
            (table.name, column.name, "YES" if column.nullable else "NO")
            for table in tables.metadata.sorted_tables
            for column in table.columns
        }
        assert {row for row in found if row[0] not in own} == expected


class TestFacts:
    async def test_are_published_in_real_time_and_in_the_trace_of_the_invoice(
        self, logins: Logins, world: FakeGatewayWorld
    ) -> None:
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        await world.set_method("soft")
        await world.hear(issued(trace_parent=trace), issued("inv_2"))
        await world.collect()
        query = "SELECT event_id, subject, trace_headers, created_at FROM outbox_facts"
        async with logins.worker.transaction(ACME) as connection:
            facts = {row["event_id"]: row for row in await (await raw(connection)).fetch(query)}
        ids = [(await world.payment(invoice_id))[0].payment_id for invoice_id in ("inv_1", "inv_2")]
        traced, plain = (facts.pop(f"acme:payment-failed:{payment_id}:1") for payment_id in ids)
        assert facts == {}
        assert traced["subject"] == plain["subject"] == "payments.payment.failed.v1"
        assert traced["trace_headers"]["traceparent"].split("-")[1] == trace.split("-")[1]
        assert "traceparent" not in plain["trace_headers"]
        assert abs(traced["created_at"] - REAL_NOW) < timedelta(seconds=1)
