"""Whoever owns the database alters the log, and the verification names it."""

from __future__ import annotations

from datetime import timedelta

import asyncpg
import pytest

from services.ingest.usecases.record_usage import RecordUsage
from services.ingest.usecases.verify_log import Altered, LogRange
from tests.component.ingest.builders import a_batch
from tests.component.ingest.sealing import LATER, Log, logged, move_watermark, record_two_batches

CHANGES = {
    "property": (
        """UPDATE events SET properties = properties || '{"tokens": "50"}' WHERE event_id = 'b'""",
        "batch 1 ",
    ),
    "added property": ("""UPDATE events SET properties = properties || '{"x": ""}' WHERE event_id = 'b'""", "batch 1 "),
    "time": ("UPDATE events SET event_time_ns = event_time_ns + 1 WHERE event_id = 'a'", "batch 1 "),
    "customer": ("UPDATE events SET customer_id = 'cust-03' WHERE event_id = 'd'", "batch 2 "),
    "type": ("UPDATE events SET event_type = 'other' WHERE event_id = 'd'", "batch 2 "),
    "measured": ("""UPDATE events SET measured = '{"calls": "1", "tokens": "6"}' WHERE event_id = 'a'""", "batch 1 "),
    "event id": ("UPDATE events SET event_id = 'z' WHERE event_id = 'a'", "batch 1 "),
    "source": ("UPDATE events SET source = 'other' WHERE event_id = 'a'", "batch 1 "),
    "ordinal": ("UPDATE events SET ordinal = 9 WHERE event_id = 'a'", "batch 1 "),
    "event removed": ("DELETE FROM events WHERE event_id = 'c'", "batch 1 "),
    "event added": (
        "INSERT INTO events SELECT tenant_id, received_at, batch_id, 7, source, 'new', event_type, customer_id,"
        " event_time_ns, properties, measured FROM events WHERE event_id = 'a'",
        "batch 1 ",
    ),
    "event added outside of batches": (
        "INSERT INTO events SELECT tenant_id, received_at, 99, ordinal, source, 'new', event_type, customer_id,"
        " event_time_ns, properties, measured FROM events WHERE event_id = 'a'",
        "the log as a whole",
    ),
    "batch removed": ("DELETE FROM batches WHERE batch_id = 2", "batch 2 "),
    "result removed": ("DELETE FROM batch_results WHERE batch_id = 2", "batch 2 "),
    "batch time": ("UPDATE batches SET accepted_at = accepted_at + interval '1 second' WHERE batch_id = 2", "batch 2 "),
    "exception": ("UPDATE event_exceptions SET reason = 'OTHER' WHERE event_id = 'r'", "batch 1 "),
    "exception removed": ("DELETE FROM event_exceptions WHERE event_id = 'b'", "batch 2 "),
    "counts": ("UPDATE batch_results SET duplicate = 0, recorded = recorded + 1 WHERE batch_id = 2", "batch 2 "),
    "duplicates": ("UPDATE batch_results SET duplicate_ordinals = '{1}' WHERE batch_id = 2", "batch 2 "),
    "digest": (r"UPDATE batch_results SET digest = '\x00' WHERE batch_id = 1", "batch 1 "),
    "entry": (r"UPDATE log_links SET entry_hash = '\x00' WHERE position = 2", "batch 2 "),
    "chain hash": (r"UPDATE log_links SET chain_hash = '\x00' WHERE position = 1", "position 1"),
    "link time": ("UPDATE log_links SET linked_at = linked_at + interval '1 second' WHERE position = 2", "position 2"),
    "link removed": ("DELETE FROM log_links WHERE position = 1", "position 1"),
    "last link removed": ("DELETE FROM log_links WHERE position = 5", "position 5"),
    "seal": (
        "UPDATE hour_seals SET event_count = 1 WHERE hour_start = '2026-03-10 13:00Z'",
        "seal 2026-03-10T13",
    ),
    "seal removed": ("DELETE FROM hour_seals WHERE hour_start = '2026-03-10 12:00Z'", "seal 2026-03-10T12"),
    "seal moved": (
        "UPDATE hour_seals SET position = 1 WHERE hour_start = '2026-03-10 12:00Z'",
        "seal 2026-03-10T12",
    ),
    "sum": ("UPDATE hour_seal_sums SET value_sum = value_sum - 1 WHERE customer_id = 'cust-02'", "seal 2026-03-10T12"),
    "sum removed": ("DELETE FROM hour_seal_sums WHERE customer_id = 'cust-02'", "seal 2026-03-10T12"),
    "window": (
        "UPDATE usage_windows SET value = value - 1 WHERE meter_id = 'tokens' AND customer_id = 'cust-02'",
        "hour 2026-03-10T12:00Z",
    ),
    "window count": ("UPDATE usage_windows SET event_count = 1 WHERE meter_id = 'tokens'", "hour 2026-03-10T12:00Z"),
    "window removed": ("DELETE FROM usage_windows WHERE customer_id = 'cust-02'", "hour 2026-03-10T12:00Z"),
    "window added": (
        "INSERT INTO usage_windows SELECT tenant_id, 'key', meter_id, customer_id, window_start + interval '3 hours',"
        " dimensions, value, event_count, version, trace_parent FROM usage_windows"
        " WHERE meter_id = 'tokens' AND customer_id = 'cust-02'",
        "hour 2026-03-10T15:00Z",
    ),
}


class TestTampering:
    @pytest.fixture
    async def sealed(self, record: RecordUsage, log: Log, ingest_database_owner: asyncpg.Connection) -> Log:
        await record_two_batches(record)
        await record([a_batch(3, logged("f", 4, hours=1))])
        await move_watermark(ingest_database_owner, LATER)
        await log.seal()
        assert (await log.head()).head.position == 5  # Three batches, two hours.
        return log

    @pytest.mark.parametrize("change", CHANGES)
    async def test_is_named(self, sealed: Log, ingest_database_owner: asyncpg.Connection, change: str) -> None:
        statement, named = CHANGES[change]
        await ingest_database_owner.execute("SET session_replication_role = 'replica'")  # No trigger helps.
        kept = (await sealed.head()).head

        assert await ingest_database_owner.execute(statement) not in ("UPDATE 0", "DELETE 0", "INSERT 0 0")

        difference = (await sealed.verify(LogRange(kept=kept) if change == "last link removed" else None)).difference
        assert difference is not None
        assert f"{difference.name} ".startswith(named)

    async def test_a_chain_made_anew_is_found_by_a_kept_head(
        self, sealed: Log, record: RecordUsage, ingest_database_owner: asyncpg.Connection
    ) -> None:
        kept = (await sealed.head()).head
        await ingest_database_owner.execute("DELETE FROM log_links")
        await ingest_database_owner.execute("DELETE FROM hour_seals")
        await ingest_database_owner.execute("DELETE FROM hour_seal_sums")
        await ingest_database_owner.execute("DELETE FROM sealed_through")
        await ingest_database_owner.execute("INSERT INTO unsealed_batches SELECT tenant_id, batch_id FROM batches")
        sealed.now += timedelta(minutes=1)
        await sealed.seal()

        assert (await sealed.verify()).difference is None
        found = (await sealed.verify(LogRange(kept=kept))).difference

        assert found is not None
        assert (found.what, found.name) == (Altered.CHAIN, "position 5")

    async def test_nothing_was_touched(self, sealed: Log) -> None:
        found = await sealed.verify()

        assert (found.links, found.events, found.hours, found.difference) == (5, 5, 23, None)
