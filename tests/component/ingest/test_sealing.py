"""The chain over what was recorded, and who may touch it."""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial

import asyncpg
import pytest

from libs.database import Database, retry_transient
from libs.embedded.databases import ServiceDatabase
from services.ingest.domain.door import to_ns
from services.ingest.domain.usage_batch import payload_hash
from services.ingest.store.sealing import PostgresSealing
from services.ingest.usecases.record_usage import RecordUsage
from services.ingest.usecases.verify_log import LogRange
from tests.component.ingest.builders import NOON, a_batch, fetch
from tests.component.ingest.sealing import Log, logged, record_two_batches


class TestChain:
    async def test_links_every_batch_once(self, record: RecordUsage, log: Log) -> None:
        await record_two_batches(record)

        await log.seal()
        await log.seal()
        found = await log.verify()

        assert (found.links, found.events, found.difference) == (2, 4, None)
        assert (await log.head()).queued == 0

    async def test_another_tenants_log_is_another_chain(
        self, record: RecordUsage, log: Log, api: Database, worker: Database
    ) -> None:
        await record([a_batch(1, logged("a"), tenant="acme"), a_batch(1, logged("a"), tenant="bolt", seq=9)])
        await log.seal()

        heads = [(await log.head()).head, (await Log(api, worker, "bolt").head()).head]

        assert [head.position for head in heads] == [1, 1]
        assert heads[0].chain_hash != heads[1].chain_hash

    async def test_a_batch_that_commits_after_a_later_one_is_linked_behind_it(
        self, record: RecordUsage, log: Log, api: Database, ingest_database_owner: asyncpg.Connection
    ) -> None:
        open_transaction = ingest_database_owner.transaction()
        await open_transaction.start()
        await ingest_database_owner.execute(
            "INSERT INTO batches (tenant_id, acceptor_epoch, batch_number, received_at, accepted_at, event_count,"
            " rejected_count, trace_parent) VALUES ('acme', 'slow', 1, $1, $1, 0, 0, '')",
            NOON,
        )
        await ingest_database_owner.execute(
            "INSERT INTO batch_results (tenant_id, batch_id, recorded, duplicate, conflict, rejected,"
            " duplicate_ordinals, digest) SELECT tenant_id, batch_id, 0, 0, 0, 0, '{}', $1 FROM batches"
            " WHERE acceptor_epoch = 'slow'",
            bytes.fromhex("0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"),
        )
        await record([a_batch(1, logged("a"))])
        await log.seal()
        await open_transaction.commit()
        await log.seal()

        linked = await fetch(api, "acme", "SELECT batch_id FROM log_links ORDER BY position")

        assert linked == [(2,), (1,)]
        assert (await log.verify()).difference is None

    async def test_two_sealers_at_once_make_one_chain(self, record: RecordUsage, log: Log, worker: Database) -> None:
        for number in range(1, 13):
            await record([a_batch(number, logged(f"e{number}"))])
        small = PostgresSealing(worker, batches_at_once=2)

        async def seal_all() -> None:
            while await small.tenants(NOON, {}):
                await retry_transient(partial(small.seal, "acme", NOON, NOON))

        await asyncio.gather(*(seal_all() for _ in range(4)))

        found = await log.verify()
        assert (found.links, found.difference) == (12, None)

    async def test_a_sealer_that_is_cut_off_leaves_no_half_link(
        self, record: RecordUsage, log: Log, worker: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await record_two_batches(record)
        broken = "SELECT 1 / 0 WHERE $1::text IS NOT NULL AND $2::bigint[] IS NOT NULL"
        monkeypatch.setattr("services.ingest.store.sealing_sql.TAKE_BATCHES", broken)
        with pytest.raises(asyncpg.DivisionByZeroError):
            await log.sealing.seal("acme", log.now, log.now)
        assert (await log.head()).head.position == 0
        monkeypatch.undo()

        await log.seal()

        found = await log.verify()
        assert (found.links, found.difference) == (2, None)

    async def test_verifies_a_part_and_a_kept_head(self, record: RecordUsage, log: Log) -> None:
        await record_two_batches(record)
        await log.seal()
        kept = (await log.head()).head
        await record([a_batch(3, logged("e"))])
        await log.seal()

        part = await log.verify(LogRange(first=2, through=2))
        whole = await log.verify(LogRange(kept=kept))

        assert (part.links, part.difference) == (1, None)
        assert (whole.links, whole.difference) == (3, None)

    async def test_batches_of_old_code_are_verified_by_the_old_formula(
        self, record: RecordUsage, log: Log, ingest_database_owner: asyncpg.Connection
    ) -> None:
        await record([a_batch(1, logged("a"))])
        hashed = payload_hash("llm.request", "cust-01", to_ns(NOON), logged("a").properties)
        await ingest_database_owner.execute(
            "UPDATE batch_results SET digest_version = 1, oldest_ns = NULL, digest = $1", _flat("gateway", "a", hashed)
        )
        await log.seal()

        assert (await log.verify()).difference is None

        await ingest_database_owner.execute("""UPDATE events SET properties = '{"tokens": "50"}'""")
        assert (await log.verify()).difference is not None


def _flat(source: str, event_id: str, hashed: bytes) -> bytes:
    return hashlib.blake2b(f'["{source}","{event_id}"]'.encode() + hashed, digest_size=32).digest()


class TestAccess:
    @pytest.mark.parametrize("table", ["log_links", "hour_seals", "hour_seal_sums", "batch_results", "events"])
    @pytest.mark.parametrize("statement", ["UPDATE {} SET tenant_id = 'x'", "DELETE FROM {}", "TRUNCATE {}"])
    @pytest.mark.parametrize("login", ["api", "worker"])
    async def test_no_login_of_the_service_changes_what_is_sealed(
        self, ingest_database: ServiceDatabase, login: str, statement: str, table: str
    ) -> None:
        url = ingest_database.api_url if login == "api" else ingest_database.worker_url
        connection = await asyncpg.connect(url)
        try:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement.format(table))
        finally:
            await connection.close()

    async def test_only_the_sealers_login_links(self, ingest_database: ServiceDatabase) -> None:
        connection = await asyncpg.connect(ingest_database.api_url)
        try:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("INSERT INTO log_links (tenant_id) VALUES ('acme')")
        finally:
            await connection.close()
