"""One transaction and the stores in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import Database, RequestLog, raw
from libs.outbox import StateOutbox, WatermarkOutbox
from services.rating.store import tables
from services.rating.store.billing_periods import PostgresBillingPeriodStore
from services.rating.store.charges import PostgresChargeStore
from services.rating.store.commitment_terms import PostgresCommitmentTermStore
from services.rating.store.customer_periods import PostgresCustomerPeriodStore
from services.rating.store.dimensions import PostgresDimensionStore
from services.rating.store.exact_usage import PostgresExactUsageStore
from services.rating.store.live_charges import PostgresLiveChargeStore
from services.rating.store.price_overrides import PostgresPriceOverrideStore
from services.rating.store.queue import PostgresRatingQueue
from services.rating.store.rate_cards import PostgresRateCardStore
from services.rating.store.reconciliation import PostgresReconciliation
from services.rating.store.reratings import PostgresReratingStore
from services.rating.store.usage import PostgresUsageStore
from services.rating.store.usage_by_window import PostgresUsageByWindowStore
from services.rating.store.watermarks import EncodeWatermark, PostgresWatermarkStore

WATERMARK_NAME = "rating"


@dataclass(frozen=True, slots=True)
class PostgresWork:
    """The stores of one open transaction."""

    usage: PostgresUsageStore
    exact_usage: PostgresExactUsageStore
    dimensions: PostgresDimensionStore
    periods: PostgresBillingPeriodStore
    cards: PostgresRateCardStore
    overrides: PostgresPriceOverrideStore
    charges: PostgresChargeStore
    customer_periods: PostgresCustomerPeriodStore
    live_charges: PostgresLiveChargeStore
    queue: PostgresRatingQueue
    watermarks: PostgresWatermarkStore
    reconciliation: PostgresReconciliation
    reratings: PostgresReratingStore
    requests: RequestLog
    terms: PostgresCommitmentTermStore
    usage_by_window: PostgresUsageByWindowStore


class PostgresUnitOfWork:
    """Opens transactions as one of the two login roles."""

    def __init__(self, database: Database, encode_watermark: EncodeWatermark) -> None:
        self._database = database
        self._encode_watermark = encode_watermark

    @asynccontextmanager
    async def __call__(self, *tenants: str) -> AsyncIterator[PostgresWork]:
        """Open a transaction that sees these tenants, or queues only if none is named; commit at exit."""
        opened = self._database.transaction(*tenants) if tenants else self._database.queue_transaction()
        async with opened as connection:
            yield await self._work(connection)

    async def _work(self, connection: AsyncConnection) -> PostgresWork:
        driver = await raw(connection)
        watermarks = WatermarkOutbox(connection, tables.outbox_watermarks, WATERMARK_NAME)
        return PostgresWork(
            usage=PostgresUsageStore(driver),
            exact_usage=PostgresExactUsageStore(driver),
            dimensions=PostgresDimensionStore(driver),
            periods=PostgresBillingPeriodStore(driver),
            cards=PostgresRateCardStore(driver),
            overrides=PostgresPriceOverrideStore(driver),
            charges=PostgresChargeStore(driver, StateOutbox(connection, tables.charge_marks)),
            customer_periods=PostgresCustomerPeriodStore(driver),
            live_charges=PostgresLiveChargeStore(driver),
            queue=PostgresRatingQueue(driver),
            watermarks=PostgresWatermarkStore(driver, watermarks, self._encode_watermark),
            reconciliation=PostgresReconciliation(driver),
            reratings=PostgresReratingStore(driver),
            requests=RequestLog(connection, tables.requests),
            terms=PostgresCommitmentTermStore(driver),
            usage_by_window=PostgresUsageByWindowStore(driver),
        )
