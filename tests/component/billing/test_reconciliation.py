"""The reconciliation finds what somebody with the owner's rights has changed."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from libs.database import Database, raw
from libs.embedded.databases import ServiceDatabase
from libs.embedded.postgres import EmbeddedPostgres
from libs.periods import Period
from services.billing.usecases import reconcile
from services.billing.usecases.reconcile import Reconcile
from tests.component.billing.world import World, a_key
from tests.unit.billing.fakes import a_charge, utc

JANUARY, FEBRUARY, MARCH = utc(2026, 1, 1), utc(2026, 2, 1), utc(2026, 3, 1)


async def two_invoices(world: World) -> None:
    await world.add_tenant("acme", JANUARY)
    await world.add_customer("acme")
    await world.subscribe("acme")
    for start in (JANUARY, FEBRUARY):
        world.rating.by_period[a_key(start)] = (a_charge(a_key(start), amount="12.345"),)
    await world.advance("acme", MARCH)
    await world.bill()


async def failing(world: World, within: Period | None = None) -> list[str]:
    checks = await Reconcile(unit_of_work=world.api, rating=world.rating)(tenant_id="acme", within=within)
    return [check.name for check in checks if not check.ok]


async def test_everything_agrees_after_issuing(world: World) -> None:
    await two_invoices(world)
    assert await failing(world) == []


@pytest.mark.parametrize(
    ("statement", "check"),
    [
        (
            "UPDATE invoice_lines SET quantity = quantity + 1",
            "invoiced quantities = quantities of the frozen charges",
        ),
        (
            "UPDATE invoice_lines SET exact_amount = exact_amount + 0.0001",
            "exact amounts of lines = amounts of the frozen charges",
        ),
        ("UPDATE invoices SET total_minor = total_minor + 1", "invoice totals = sums of their lines"),
        ("UPDATE invoice_numbers SET last_value = last_value + 1", "invoices with a number = numbers given"),
        ("UPDATE charges SET quantity = quantity - 1", "charges = rating's charges"),
    ],
)
async def test_a_change_is_found(
    world: World, billing_database: ServiceDatabase, postgres: EmbeddedPostgres, statement: str, check: str
) -> None:
    await two_invoices(world)
    await asyncio.to_thread(postgres.run_sql, statement, billing_database.name)
    assert await failing(world) == [check]


async def test_periods_are_compared_page_by_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "_PERIODS_AT_ONCE", 1)
    await two_invoices(world)
    assert await failing(world) == []
    world.rating.change(a_charge(a_key(FEBRUARY)), version=9)
    assert await failing(world) == ["charges = rating's charges"]


async def test_only_the_periods_that_were_asked_for_are_looked_at(
    world: World, billing_database: ServiceDatabase, postgres: EmbeddedPostgres
) -> None:
    await two_invoices(world)
    spoil = "UPDATE invoices SET total_minor = 1 WHERE period_start = '2026-02-01'"
    await asyncio.to_thread(postgres.run_sql, spoil, billing_database.name)

    assert await failing(world, Period(JANUARY, FEBRUARY)) == []
    assert await failing(world, Period(FEBRUARY, MARCH)) == ["invoice totals = sums of their lines"]


async def test_a_late_charge_agrees_with_rating_and_leaves_the_invoice(world: World) -> None:
    await two_invoices(world)
    late = a_charge(a_key(JANUARY), amount="99", version=9)
    await world.apply("acme", [late])
    world.rating.by_period[a_key(JANUARY)] = (late,)
    assert await failing(world) == []


@pytest.mark.parametrize("table", ["invoice_lines", "frozen_charges"])
async def test_frozen_rows_cannot_be_changed_by_the_service(world: World, table: str) -> None:
    await two_invoices(world)
    for database in (world.api_database, world.worker_database):
        for statement in (f"UPDATE {table} SET price_id = 'x'", f"DELETE FROM {table}"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await _execute(database, statement)


async def _execute(database: Database, statement: str) -> None:
    async with database.transaction("acme") as connection:
        await (await raw(connection)).execute(statement)
