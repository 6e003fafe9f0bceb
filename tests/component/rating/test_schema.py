"""The migrations make what the code expects, and keep tenants apart."""

from __future__ import annotations

from decimal import Decimal

import asyncpg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from libs.database import check_head
from libs.database.engine import single_connection_engine
from libs.embedded.databases import ServiceDatabase
from services.rating.domain.price_terms import Commitment, CommitmentKind, PriceTerms
from services.rating.domain.prices import LinesBefore, Matrix
from services.rating.domain.rate_card import Price
from services.rating.store import tables
from tests.component.rating.support import APRIL, REQUESTS, STANDARD, TOKENS, Rating, billing_period, rate_card, window

QUEUES = {
    "rating_marks",
    "rating_retries",
    "received_watermarks",
    "charge_marks",
    "outbox_leases",
    "outbox_watermarks",
    "parked_queue",
}


async def test_migrations_make_the_tables_of_the_code(server: ServiceDatabase) -> None:
    engine = single_connection_engine(server.owner_url, application_name="test", settings={})

    def differences(connection: sa.Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, tables.metadata))

    async with engine.connect() as connection:
        found = await connection.run_sync(differences)
    await engine.dispose()

    assert found == []
    await check_head(server.api_url, tables.MIGRATIONS)


async def test_row_security_is_forced_on_every_tenant_table(server: ServiceDatabase) -> None:
    connection = await asyncpg.connect(server.owner_url)
    rows = await connection.fetch(
        "SELECT relname, relrowsecurity AND relforcerowsecurity AS forced FROM pg_class"
        " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'"
    )
    await connection.close()

    unforced = {row["relname"] for row in rows if not row["forced"]}

    assert unforced == QUEUES
    assert {row["relname"] for row in rows} == {table.name for table in tables.metadata.sorted_tables}


@pytest.mark.parametrize("table", sorted({t.name for t in tables.metadata.sorted_tables} - QUEUES))
async def test_a_tenant_sees_only_its_own_rows(rating: Rating, table: str) -> None:
    rating.ingest.not_additive.add(REQUESTS)
    await rating.receive(window(5), window(7, tenant="other"))
    matrix = Price("regions", Matrix((), Decimal(1)), meter_id=TOKENS)
    year = PriceTerms(commitment=Commitment(CommitmentKind.AMOUNT, Decimal(12), periods=12))
    committed = Price("year", LinesBefore(), terms=year)
    await rating.add_card(rate_card(*STANDARD, matrix, committed))
    await rating.accept([billing_period(), billing_period(period=APRIL), billing_period(tenant="other")])
    await rating.rate_all()
    if table == "price_overrides":
        for tenant in ("acme", "other"):
            await rating.sql(
                "INSERT INTO price_overrides (tenant_id, override_id, rate_card_id, customer_id, subscription_id,"
                f" prices, reason, created_at) VALUES ('{tenant}', 'o', 'c', 'c', '', '[]', '', now())",
                tenant=tenant,
            )
    if table == "rerated_charges":
        for tenant in ("acme", "other"):
            await rating.sql(
                "INSERT INTO rerated_charges (tenant_id, request_id, number, subscription_id, period_start, price_id,"
                " before_withdrawn, before_version, content, withdrawn, version, reason, actor, rerated_at)"
                f" VALUES ('{tenant}', 'r', 1, 's', now(), 'p', false, 0, '', false, 1, '', '', now())",
                tenant=tenant,
            )
    if table == "parked_messages":
        await rating.sql(
            "INSERT INTO parked_messages VALUES ('acme', 'p', 'c', 's', now(), 1, 'x', '{}', '', 'e', now(), NULL)"
        )

    own = f"SELECT count(*) FILTER (WHERE tenant_id = 'acme'), count(*) FROM {table}"
    async with rating.api.transaction("acme") as connection:
        own_rows, seen = list((await connection.exec_driver_sql(own)).one())
    async with rating.worker.transaction("nobody") as connection:
        seen_by_stranger = list((await connection.exec_driver_sql(own)).one())

    assert seen_by_stranger == [0, 0]
    # Only the other tenant, which has no card, has a problem.
    assert own_rows == seen
    assert (seen > 0) is (table != "rating_problems")


async def test_rate_card_versions_cannot_be_changed(rating: Rating) -> None:
    await rating.add_card(rate_card())

    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        await rating.sql("UPDATE rate_cards SET currency = 'EUR'")


async def test_a_day_of_the_wrong_tenant_cannot_be_written(rating: Rating) -> None:
    with pytest.raises(sa.exc.ProgrammingError, match="row-level security"):
        await rating.sql("INSERT INTO usage_days VALUES ('other', 'c', 'm', '2026-03-01', 1, 1, 1)")
