"""Places in the stream of messages that are parked."""

from __future__ import annotations

from libs.database import Database, raw
from services.ingest.store.keeper_sql import ADD_POSITION
from services.ingest.usecases.ports import StreamPosition


class PostgresParkedPositions:
    """Notes where parked messages lay, for the keeper's accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_parked(self, position: StreamPosition, tenant_id: str) -> None:
        """Note it and commit; a second time changes nothing."""
        async with self._database.queue_transaction() as connection:
            driver = await raw(connection)
            await driver.execute(ADD_POSITION, position.stream_epoch, position.stream_seq, tenant_id)
