"""Places in the stream of messages that are parked."""

from __future__ import annotations

from libs.database import Database, raw
from services.ingest.store.keeper_sql import ADD_POSITION
from services.ingest.usecases.ports import StreamPosition


class PostgresParkedPositions:
    """Notes where parked messages lay, for the keeper's accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_parked(self, position: StreamPosition, tenant_id: str, acceptor_epoch: str, number: int) -> None:
        """Note it and commit; a second time changes nothing. A batch that is readable is not missing: its number is
        given, else none."""
        place = (position.stream_epoch, position.stream_seq)
        async with self._database.queue_transaction() as connection:
            driver = await raw(connection)
            await driver.execute(ADD_POSITION, *place, tenant_id, acceptor_epoch, number)
