"""Voids and replacements on a real PostgreSQL: what was corrected counts nowhere, whatever came first."""

from __future__ import annotations

import asyncio
import random
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import asyncpg
import pytest

from libs.database import Database, raw
from libs.errors import InvalidInput, RequestIdReused
from services.ingest.domain.correction import MAX_CORRECTIONS, derived_event_id
from services.ingest.domain.door import DoorPolicy, to_ns
from services.ingest.domain.recording import POSITIONS_PER_BATCH, Fate
from services.ingest.store.corrections import PostgresCorrectionList
from services.ingest.store.event_queries import PostgresEventStore
from services.ingest.store.recording_transactions import PostgresRecordingTransactions
from services.ingest.usecases.ports import QueuedBatch
from services.ingest.usecases.record_usage import RecordUsage
from tests.component.ingest.builders import NOON, Event, a_batch, a_meter, add_meters, fetch
from tests.component.ingest.correcting import Corrector, key, outcomes
from tests.component.ingest.metering import BY_ID, METERS, jobs
from tests.component.ingest.running import until

STATES = """
SELECT meter_id, customer_id, window_start, dimensions, value, event_count, latest_ns FROM usage_windows
WHERE event_count > 0 ORDER BY 1, 2, 3, dimensions::text
"""
VALUES = "SELECT value, event_count FROM usage_windows ORDER BY window_start, window_key"


@pytest.fixture
def corrector(api: Database, worker: Database) -> Corrector:
    return Corrector(api, worker)


def of_acceptor(number: int, *events: Event, tenant: str = "acme", seq: int | None = None) -> QueuedBatch:
    """A batch of an acceptor that has accepted no other."""
    return a_batch(number, *events, epoch=f"epoch-{number}", tenant=tenant, seq=seq)


def tokens(
    event_id: str, count: str, *, customer_id: str = "cust-01", at: datetime = NOON, source: str = "gateway"
) -> Event:
    return Event(event_id, {"tokens": count}, customer_id, at, source=source)


class TestVoiding:
    async def test_leaves_the_event_and_takes_it_out_of_its_windows(
        self, record: RecordUsage, api: Database, corrector: Corrector
    ) -> None:
        await add_meters(api, a_meter(), a_meter("calls", expression=""))
        await record([of_acceptor(1, tokens("1", "10"), tokens("2", "5"))])
        before = await fetch(api, "acme", "SELECT max(version), count(*) FROM usage_windows")

        results = await corrector.void(key("1"))

        assert outcomes(results) == ["applied"]
        assert sorted(await fetch(api, "acme", VALUES)) == [(Decimal(1), 1), (Decimal(5), 1)]
        after = await fetch(api, "acme", "SELECT min(version), count(*) FROM usage_windows")
        assert (after[0][0] > before[0][0], after[0][1]) == (True, before[0][1])  # type: ignore[operator]
        assert await fetch(api, "acme", "SELECT count(*) FROM events") == [(2,)]
        assert await corrector.failed_checks() == []

    async def test_marks_the_windows_for_publication_with_their_new_versions(
        self, record: RecordUsage, api: Database, worker: Database, corrector: Corrector
    ) -> None:
        await add_meters(api, a_meter())
        await record([of_acceptor(1, tokens("1", "10"))])

        await corrector.void(key("1"))

        newest = "SELECT max(version) FROM usage_windows"
        assert await fetch(worker, "acme", newest) == await fetch(
            worker, "acme", "SELECT max(version) FROM usage_window_marks WHERE tenant_id = 'acme'"
        )

    async def test_a_window_without_effective_events_is_zero_and_begins_anew(
        self, record: RecordUsage, api: Database, corrector: Corrector
    ) -> None:
        """Zero is no value: neither less than those that come after it, nor greater, nor later."""
        await add_meters(api, *METERS)
        sent = jobs(1, 5)
        await record([of_acceptor(1, *sent)])
        await corrector.void(*(key(event.event_id) for event in sent))
        assert await fetch(api, "acme", "SELECT DISTINCT value, event_count, latest_ns FROM usage_windows") == [
            (Decimal(0), 0, 0)
        ]
        assert await corrector.failed_checks() == []

        again = [event._replace(event_id=f"again-{event.event_id}") for event in sent]
        await record([of_acceptor(2, *again)])

        assert await corrector.failed_checks() == []
        assert len(await fetch(api, "acme", STATES)) > 0

    async def test_of_the_latest_event_leaves_the_one_before_it(
        self, record: RecordUsage, api: Database, corrector: Corrector
    ) -> None:
        """Of events at one instant the latest is the one that was recorded last, also of those that are left."""
        await add_meters(api, replace(BY_ID["latest"], event_type="llm.request", expression="tokens"))
        await record([of_acceptor(1, tokens("1", "10"), tokens("2", "5"), tokens("3", "7"))])

        await corrector.void(key("3"))

        windows = "SELECT value, event_count, latest_ns, latest_position FROM usage_windows"
        [(batch_id,)] = await fetch(api, "acme", "SELECT DISTINCT batch_id FROM events")
        position = int(str(batch_id)) * POSITIONS_PER_BATCH + 1
        assert await fetch(api, "acme", windows) == [(Decimal(5), 2, to_ns(NOON), position)]

    async def test_of_an_unknown_event_waits_and_applies_when_it_arrives(
        self, record: RecordUsage, api: Database, corrector: Corrector
    ) -> None:
        await add_meters(api, a_meter())

        first = await corrector.void(key("1"))
        again = await corrector.void(key("1"))
        report = await record([of_acceptor(1, tokens("1", "10"), tokens("2", "5"))])

        assert (outcomes(first), outcomes(again)) == (["waiting"], ["already"])
        assert report.fates[Fate.RECORDED] == 2
        assert await fetch(api, "acme", VALUES) == [(Decimal(5), 1)]
        assert await fetch(api, "acme", "SELECT count(*) FROM events") == [(2,)]
        assert await fetch(api, "acme", "SELECT count(*) FROM waiting_corrections") == [(0,)]
        assert await corrector.failed_checks() == []

    async def test_what_waits_for_others_does_not_touch_an_event(
        self, record: RecordUsage, api: Database, corrector: Corrector
    ) -> None:
        await add_meters(api, a_meter())
        await corrector.void(("other-source", "1"), key("2"))

        await record([of_acceptor(1, tokens("1", "10"))])

        assert await fetch(api, "acme", VALUES) == [(Decimal(10), 1)]
        assert await fetch(api, "acme", "SELECT count(*) FROM waiting_corrections") == [(2,)]

    async def test_an_event_sent_again_after_its_void_is_a_duplicate(
        self, record: RecordUsage, api: Database, corrector: Corrector
    ) -> None:
        await add_meters(api, a_meter())
        await record([of_acceptor(1, tokens("1", "10"))])
        await corrector.void(key("1"))

        report = await record([of_acceptor(2, tokens("1", "10"), tokens("1", "11"))])

        assert (report.fates[Fate.DUPLICATE], report.fates[Fate.CONFLICT]) == (1, 1)
        assert await fetch(api, "acme", VALUES) == [(Decimal(0), 0)]

    async def test_a_void_of_one_tenant_is_nothing_to_another(
        self, record: RecordUsage, api: Database, worker: Database, corrector: Corrector
    ) -> None:
        for tenant in ("acme", "beta"):
            await add_meters(api, a_meter(), tenant=tenant)
        await corrector.void(key("1"))
        await record([of_acceptor(1, tokens("1", "10")), of_acceptor(1, tokens("1", "10"), tenant="beta", seq=2)])
        await corrector.void(key("1"))

        assert await fetch(api, "acme", VALUES) == []
        assert await fetch(api, "beta", VALUES) == [(Decimal(10), 1)]
        assert await fetch(api, "beta", "SELECT count(*) FROM corrections") == [(0,)]

    async def test_ten_thousand_at_once(self, record: RecordUsage, api: Database, corrector: Corrector) -> None:
        await add_meters(api, a_meter(group_by=["model"]))
        sent = [
            Event(str(number), {"tokens": "1", "model": str(number % 7)}, f"cust-{number % 3}")
            for number in range(MAX_CORRECTIONS - 10)
        ]
        batches = [sent[first : first + 1_000] for first in range(0, len(sent), 1_000)]
        await record([of_acceptor(number, *batch) for number, batch in enumerate(batches, start=1)])

        results = await corrector.void(*(key(str(number)) for number in range(MAX_CORRECTIONS)))

        assert (outcomes(results).count("applied"), outcomes(results).count("waiting")) == (len(sent), 10)
        assert await fetch(api, "acme", "SELECT DISTINCT event_count FROM usage_windows") == [(0,)]
        assert await corrector.failed_checks() == []


class TestReplacing:
    async def test_counts_the_replacement_in_place_of_the_original(
        self, record: RecordUsage, api: Database, corrector: Corrector
    ) -> None:
        await add_meters(api, a_meter())
        await record([of_acceptor(1, tokens("1", "1000"), tokens("2", "5"))])

        results = await corrector.replace((key("1"), tokens("1b", "10")))

        assert (outcomes(results), results[0].replacement) == (["applied"], key("1b"))
        assert await fetch(api, "acme", VALUES) == [(Decimal(15), 2)]
        assert await fetch(api, "acme", "SELECT count(*) FROM events") == [(3,)]
        assert await corrector.failed_checks() == []

    async def test_may_change_everything_and_reach_other_windows(
        self, record: RecordUsage, api: Database, corrector: Corrector
    ) -> None:
        await add_meters(api, a_meter(group_by=["model"]), a_meter("calls", expression=""))
        await record([of_acceptor(1, Event("1", {"tokens": "3", "model": "small"}))])
        other = Event("1b", {"tokens": "4", "model": "large"}, "cust-02", NOON - timedelta(days=200))

        assert outcomes(await corrector.replace((key("1"), other))) == ["applied"]

        assert await fetch(
            api,
            "acme",
            "SELECT meter_id, customer_id, window_start, value FROM usage_windows WHERE event_count > 0 ORDER BY 1",
        ) == [("calls", "cust-02", other.at, Decimal(1)), ("tokens", "cust-02", other.at, Decimal(4))]
        assert await corrector.failed_checks() == []

    async def test_a_replacement_can_be_replaced_and_voided(
        self, record: RecordUsage, api: Database, corrector: Corrector
    ) -> None:
        await add_meters(api, a_meter())
        await record([of_acceptor(1, tokens("1", "1"))])

        assert outcomes(await corrector.replace((key("1"), tokens("2", "20")))) == ["applied"]
        assert outcomes(await corrector.replace((key("2"), tokens("3", "300")))) == ["applied"]
        assert await fetch(api, "acme", VALUES) == [(Decimal(300), 1)]
        assert outcomes(await corrector.void(key("3"))) == ["applied"]

        assert await fetch(api, "acme", VALUES) == [(Decimal(0), 0)]
        assert await corrector.failed_checks() == []

    async def test_derives_an_id_where_none_is_given(
        self, record: RecordUsage, api: Database, corrector: Corrector
    ) -> None:
        await record([of_acceptor(1, tokens("1", "1"))])

        [result] = await corrector.replace((key("1"), tokens("", "2", source="")))

        assert result.replacement == ("gateway", derived_event_id(key("1")))
        stored = await PostgresEventStore(api).event("acme", ("gateway", derived_event_id(key("1"))))
        assert (stored.properties, stored.replaces) == ({"tokens": "2"}, key("1"))

    async def test_refuses_what_cannot_be_done_and_does_the_rest(
        self, record: RecordUsage, api: Database, corrector: Corrector
    ) -> None:
        await add_meters(api, a_meter())
        await record([of_acceptor(1, *(tokens(str(number), "1") for number in range(10)))])
        await corrector.void(key("0"), key("voided-in-advance"))
        await corrector.replace((key("1"), tokens("1b", "2")))

        results = await corrector.replace(
            (key("unknown"), tokens("x", "1")),
            (key("0"), tokens("x", "1")),
            (key("1"), tokens("1c", "2")),
            (key("1"), tokens("1b", "3")),
            (key("1"), tokens("1b", "2")),
            (key("2"), tokens("3", "1")),
            (key("2"), tokens("voided-in-advance", "1")),
            (key("2"), tokens("2b", "many")),
            (key("2"), tokens("2b", "1", at=NOON + timedelta(hours=2))),
            (key("2"), tokens("2\x00", "1")),
            (key("2"), tokens("2", "2")),
            (key("2"), tokens("2b", "2")),
            (key("2"), tokens("2b", "2")),
            (key("2"), tokens("2c", "2")),
            (key("3"), tokens("2b", "2")),
            (key("2b"), tokens("2c", "2")),
        )

        assert outcomes(results) == [
            *("UNKNOWN_EVENT", "VOIDED", "SUPERSEDED", "SUPERSEDED", "already"),
            *("EVENT_ID_TAKEN", "EVENT_ID_VOIDED", "NOT_A_NUMBER", "IN_FUTURE", "CONTROL_CHARACTER", "EVENT_ID_TAKEN"),
            *("applied", "already", "SUPERSEDED", "EVENT_ID_TAKEN", "UNKNOWN_EVENT"),
        ]
        assert results[2].replacement == key("1b")
        assert await fetch(api, "acme", VALUES) == [(Decimal(11), 9)]
        assert await corrector.failed_checks() == []

    async def test_one_at_a_time_beyond_64_bits_does_not_keep_the_others_from_being_replaced(
        self, record: RecordUsage, api: Database, corrector: Corrector
    ) -> None:
        await add_meters(api, a_meter())
        await record([of_acceptor(1, tokens("1", "10"), tokens("2", "5"))])

        results = await corrector.replace(
            (key("1"), tokens("1b", "1", at=datetime(9999, 1, 1, tzinfo=UTC))), (key("2"), tokens("2b", "100"))
        )

        assert outcomes(results) == ["IN_FUTURE", "applied"]
        assert await fetch(api, "acme", VALUES) == [(Decimal(110), 2)]

    async def test_a_superseded_event_cannot_be_voided(
        self, record: RecordUsage, api: Database, corrector: Corrector
    ) -> None:
        await add_meters(api, a_meter())
        await record([of_acceptor(1, tokens("1", "1"))])
        await corrector.replace((key("1"), tokens("1b", "2")))

        [result] = await corrector.void(key("1"))

        assert (outcomes([result]), result.replacement) == (["SUPERSEDED"], key("1b"))
        assert await fetch(api, "acme", VALUES) == [(Decimal(2), 1)]

    async def test_a_strict_tenant_has_no_usage_of_unknown_customers(
        self, record: RecordUsage, corrector: Corrector
    ) -> None:
        await record([of_acceptor(1, tokens("1", "1"))])
        corrector.rules.policy = DoorPolicy(known_customers={"cust-02"})

        results = await corrector.replace(
            (key("1"), tokens("1b", "1")), (key("1"), tokens("1b", "1", customer_id="cust-02"))
        )

        assert outcomes(results) == ["UNKNOWN_CUSTOMER", "applied"]

    async def test_more_than_a_batch_holds(self, record: RecordUsage, api: Database, corrector: Corrector) -> None:
        await add_meters(api, a_meter())
        sent = [tokens(str(number), "1") for number in range(1_500)]
        await record([of_acceptor(1, *sent[:1_000]), of_acceptor(2, *sent[1_000:])])

        results = await corrector.replace(*((key(event.event_id), tokens(f"{event.event_id}b", "3")) for event in sent))

        assert outcomes(results) == ["applied"] * 1_500
        assert await fetch(api, "acme", VALUES) == [(Decimal(4_500), 1_500)]
        assert await corrector.failed_checks() == []


class TestRequests:
    async def test_repeated_give_the_first_answer_and_change_nothing(
        self, record: RecordUsage, api: Database, corrector: Corrector
    ) -> None:
        await add_meters(api, a_meter())
        await record([of_acceptor(1, tokens("1", "1"), tokens("2", "2"))])
        request_id, other_id = str(uuid.uuid4()), str(uuid.uuid4())
        voids = (key("1"), key("1"), key("waits"))
        replacements = ((key("2"), tokens("2b", "5")), (key("2"), tokens("2c", "5")))

        first = [
            await corrector.void(*voids, request_id=request_id),
            await corrector.replace(*replacements, request_id=other_id),
        ]
        before = await fetch(api, "acme", "SELECT value, version FROM usage_windows")
        again = [
            await corrector.void(*voids, request_id=request_id),
            await corrector.replace(*replacements, request_id=other_id),
        ]

        assert again == first
        assert [outcomes(results) for results in first] == [
            ["applied", "already", "waiting"],
            ["applied", "SUPERSEDED"],
        ]
        assert await fetch(api, "acme", "SELECT value, version FROM usage_windows") == before

    async def test_of_the_same_id_at_once_are_carried_out_once(
        self, record: RecordUsage, api: Database, corrector: Corrector
    ) -> None:
        await add_meters(api, a_meter())
        await record([of_acceptor(1, tokens("1", "1"))])
        request_id = str(uuid.uuid4())

        async with asyncio.timeout(30):
            found = await asyncio.gather(
                *(corrector.replace((key("1"), tokens("1b", "2")), request_id=request_id) for _ in range(5))
            )

        assert [outcomes(results) for results in found] == [["applied"]] * 5
        assert await fetch(api, "acme", "SELECT count(*) FROM events") == [(2,)]

    async def test_with_the_id_of_another_are_refused(self, corrector: Corrector) -> None:
        request_id = str(uuid.uuid4())
        await corrector.void(key("1"), request_id=request_id)

        with pytest.raises(RequestIdReused):
            await corrector.void(key("2"), request_id=request_id, fingerprint=b"other")

    @pytest.mark.parametrize(
        ("keys", "reason", "fields"),
        [
            ((), "x", ["keys"]),
            ((("gateway", "1"),) * (MAX_CORRECTIONS + 1), "x", ["keys"]),
            ((("", "1"), ("gateway", "\x00")), "x", ["keys[0].source", "keys[1].event_id"]),
            ((("gateway", "1"),), "", ["reason"]),
            ((("gateway", "1"),), "x" * 501, ["reason"]),
        ],
        ids=["none", "too many", "no ids", "no reason", "long reason"],
    )
    async def test_that_are_wrong_are_refused_whole(
        self, corrector: Corrector, keys: tuple[tuple[str, str], ...], reason: str, fields: list[str]
    ) -> None:
        with pytest.raises(InvalidInput) as caught:
            await corrector.void(*keys, reason=reason)
        assert [violation.field for violation in caught.value.violations] == fields


class TestTheRecord:
    async def test_says_why_an_event_does_not_count(
        self, record: RecordUsage, api: Database, corrector: Corrector
    ) -> None:
        await record([of_acceptor(1, *(tokens(name, "1") for name in ("voided", "superseded", "counts")))])
        await corrector.void(key("voided"), key("waits"))
        await corrector.replace((key("superseded"), tokens("better", "2")))
        store = PostgresEventStore(api)

        marks = {name: (await store.event("acme", key(name))).correction for name in ("voided", "superseded", "counts")}

        voided, superseded = marks["voided"], marks["superseded"]
        assert voided is not None
        assert superseded is not None
        assert marks["counts"] is None
        assert (voided.kind, voided.reason, voided.actor) == ("void", "sent by a test machine", "ann@example.com")
        assert (voided.api_key_id, voided.corrected_at, voided.replacement) == ("key-1", NOON, None)
        assert (superseded.kind, superseded.replacement) == ("replace", key("better"))
        listed = await PostgresCorrectionList(api).list("acme", None, 10, waiting_only=False)
        assert [(item.key, item.waiting) for item in listed] == [
            (key("superseded"), False),
            (key("waits"), True),
            (key("voided"), False),
        ]
        assert listed[0].correction == superseded
        waiting = await PostgresCorrectionList(api).list("acme", listed[0].position, 10, waiting_only=True)
        assert [item.key for item in waiting] == [key("waits")]

    async def test_cannot_be_changed_by_either_login(self, api: Database, worker: Database) -> None:
        for database in (api, worker):
            for table in ("corrections", "correction_answers"):
                for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET tenant_id = 'x'", f"TRUNCATE {table}"):
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await fetch(database, "acme", statement)


class TestRaces:
    async def test_a_void_waits_for_a_recorder_that_has_its_event(
        self, worker: Database, api: Database, record: RecordUsage, corrector: Corrector
    ) -> None:
        """The void cannot see the key, the recorder cannot see the void: one has to wait for the other."""
        await add_meters(api, a_meter())
        async with worker.transaction("acme") as connection:
            # Holds up the recorder when it comes to its windows, after it has added its keys.
            await (await raw(connection)).execute("LOCK TABLE usage_windows IN EXCLUSIVE MODE")
            recording = asyncio.create_task(record([of_acceptor(1, tokens("1", "10"))]))
            await self._waits_for_lock(worker, "usage_windows")
            voiding = asyncio.create_task(corrector.void(key("1")))
            await self._waits_for_lock(worker, None)
            assert not voiding.done()
        async with asyncio.timeout(30):
            await recording
            assert outcomes(await voiding) == ["applied"]

        assert await fetch(api, "acme", VALUES) == [(Decimal(0), 0)]
        assert await fetch(api, "acme", "SELECT count(*) FROM waiting_corrections") == [(0,)]
        assert await corrector.failed_checks() == []

    async def test_a_recorder_waits_for_a_void_of_what_it_brings(
        self,
        worker: Database,
        api: Database,
        record: RecordUsage,
        corrector: Corrector,
        ingest_database_owner: asyncpg.Connection,
    ) -> None:
        await add_meters(api, a_meter())
        async with ingest_database_owner.transaction():
            # Holds up the void when it adds its answer, after it has found no such event.
            await ingest_database_owner.execute("LOCK TABLE correction_answers IN EXCLUSIVE MODE")
            voiding = asyncio.create_task(corrector.void(key("1")))
            await self._waits_for_lock(worker, "correction_answers")
            recording = asyncio.create_task(record([of_acceptor(1, tokens("1", "10"))]))
            await self._waits_for_lock(worker, None)
            assert not recording.done()
        async with asyncio.timeout(30):
            assert outcomes(await voiding) == ["waiting"]
            await recording

        assert await fetch(api, "acme", VALUES) == []
        assert await corrector.failed_checks() == []

    async def test_a_replacement_whose_id_is_being_taken_leaves_the_original(
        self,
        worker: Database,
        api: Database,
        record: RecordUsage,
        corrector: Corrector,
        ingest_database_owner: asyncpg.Connection,
    ) -> None:
        await add_meters(api, a_meter())
        await record([of_acceptor(1, tokens("1", "10"), tokens("2", "5"))])
        async with ingest_database_owner.transaction():
            # As a recorder does it that has not committed yet.
            await ingest_database_owner.execute(
                "INSERT INTO event_keys (tenant_id, source, event_id, payload_hash, received_at, batch_id, ordinal)"
                " VALUES ('acme', 'gateway', '1b', '', now(), 1, 9)"
            )
            replacing = asyncio.create_task(
                corrector.replace((key("1"), tokens("1b", "1")), (key("2"), tokens("2b", "100")))
            )
            await self._waits_for_lock(worker, None, kind="transactionid")
        async with asyncio.timeout(30):
            assert outcomes(await replacing) == ["EVENT_ID_TAKEN", "applied"]

        assert await fetch(api, "acme", VALUES) == [(Decimal(110), 2)]
        assert await fetch(api, "acme", "SELECT event_id FROM corrections") == [("2",)]

    async def test_one_of_several_corrections_of_an_event_is_carried_out(
        self, record: RecordUsage, api: Database, corrector: Corrector
    ) -> None:
        await add_meters(api, a_meter())
        await record([of_acceptor(1, *(tokens(str(number), "1") for number in range(20)))])

        async with asyncio.timeout(60):
            for number in map(str, range(20)):
                found = await asyncio.gather(
                    corrector.void(key(number)),
                    corrector.replace((key(number), tokens(f"{number}b", "100"))),
                    corrector.replace((key(number), tokens(f"{number}c", "100"))),
                    corrector.void(key(number)),
                )
                assert [outcomes(results) for results in found].count(["applied"]) == 1

        assert await corrector.failed_checks() == []

    async def _waits_for_lock(self, worker: Database, table: str | None, *, kind: str = "advisory") -> None:
        """Return when somebody waits for a table, or else for a lock of that kind."""
        wanted = f"locktype = '{kind}'" if table is None else f"relation = '{table}'::regclass"

        async def somebody_waits() -> bool:
            # Those who wait for the end of a transaction wait in no database.
            here = "pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())"
            return await fetch(worker, "acme", f"SELECT FROM pg_locks WHERE NOT granted AND {here} AND {wanted}") != []

        await until(somebody_waits)

    async def test_voids_and_replacements_among_recorders_converge(
        self, worker: Database, api: Database, corrector: Corrector
    ) -> None:
        """Whatever meets whatever, in any order: windows are what the effective events come to, and nobody is stuck."""
        await add_meters(api, *METERS)
        dice = random.Random(7)
        events = jobs(7, 240)
        chunks = [events[first : first + 12] for first in range(0, len(events), 12)]
        recorders = [RecordUsage(PostgresRecordingTransactions(worker), lambda: NOON) for _ in range(3)]
        voided = dice.sample([event.event_id for event in events], 80)
        replaced = dice.sample(sorted({event.event_id for event in events} - set(voided)), 40)
        by_id = {event.event_id: event for event in events}
        corrector.rules.tenant_now = NOON + timedelta(days=30)

        async def send(turn: int) -> None:
            for number in range(turn, len(chunks), 3):
                await recorders[turn]([of_acceptor(number + 1, *chunks[number])])

        async def void() -> None:
            for first in range(0, len(voided), 5):
                await corrector.void(*map(key, voided[first : first + 5]))
                await asyncio.sleep(0)

        async def supersede() -> None:
            left = list(replaced)
            while left:
                wanted = [(key(name), by_id[name]._replace(event_id=f"{name}-b")) for name in left[:5]]
                results = outcomes(await corrector.replace(*wanted))
                assert set(results) <= {"applied", "UNKNOWN_EVENT"}
                left = left[5:] + [name for name, result in zip(left[:5], results, strict=True) if result != "applied"]
                await asyncio.sleep(0.01)

        async with asyncio.timeout(120):
            await asyncio.gather(*(send(turn) for turn in range(3)), void(), supersede())

        assert await corrector.failed_checks() == []
        assert await fetch(api, "acme", "SELECT count(*) FROM waiting_corrections") == [(0,)]
        clean = "clean"
        await add_meters(api, *METERS, tenant=clean)
        kept = [event for event in events if event.event_id not in voided]
        await recorders[0]([of_acceptor(1, *kept, tenant=clean, seq=900)])
        # Of values at the same instant the one that was recorded last is the latest: that may differ.
        without_latest = STATES.replace("WHERE", "WHERE NOT meter_id LIKE 'latest%' AND")
        assert await fetch(api, "acme", without_latest) == await fetch(api, clean, without_latest)


class TestLateReplay:
    async def test_a_redelivered_batch_stays_as_it_was(
        self, record: RecordUsage, api: Database, corrector: Corrector
    ) -> None:
        await add_meters(api, a_meter())
        await corrector.void(key("1"))
        queued = of_acceptor(1, tokens("1", "10"), tokens("2", "5"))

        first = await record([queued])
        await corrector.void(key("2"))
        again = await record([replace(queued, position=replace(queued.position, stream_seq=77))])

        assert first.outcomes == again.outcomes
        assert await fetch(api, "acme", VALUES) == [(Decimal(0), 0)]


class TestWhateverComesFirst:
    """Sending, voiding, replacing and repeating, in any order: as if only what counts had ever been sent."""

    @pytest.mark.parametrize("seed", range(6))
    async def test_windows_are_those_of_the_effective_events(
        self, record: RecordUsage, api: Database, corrector: Corrector, seed: int
    ) -> None:
        await add_meters(api, *METERS)
        await add_meters(api, *METERS, tenant="clean")
        corrector.rules.tenant_now = NOON + timedelta(days=30)
        dice = random.Random(seed)
        events = {event.event_id: event for event in jobs(seed, 60)}
        effective = dict(events)
        unsent, requests = list(events), []
        for number in range(1, 41):
            chosen = dice.sample(sorted(events), 6)
            match dice.choice(["send", "send", "void", "replace", "resend", "repeat"]):
                case "send" if unsent:
                    batch, unsent = unsent[:9], unsent[9:]
                    await record([of_acceptor(number, *(events[name] for name in batch))])
                case "resend":
                    sent = [events[name] for name in chosen if name not in unsent]
                    await record([of_acceptor(number, *sent)])
                case "void":
                    requests.append((str(uuid.uuid4()), tuple(map(key, chosen))))
                    results = await corrector.void(*requests[-1][1], request_id=requests[-1][0])
                    for name, result in zip(chosen, results, strict=True):
                        if result.outcome in ("applied", "waiting"):
                            del effective[name]
                case "replace":
                    names = [name for name in chosen if name in events]
                    pairs = [(key(name), events[name]._replace(event_id=f"{name}-{number}")) for name in names]
                    for name, (_, event), result in zip(names, pairs, await corrector.replace(*pairs), strict=True):
                        if result.outcome == "applied":
                            del effective[name]
                            events[event.event_id] = effective[event.event_id] = event
                case "repeat" if requests:
                    request_id, keys = dice.choice(requests)
                    await corrector.void(*keys, request_id=request_id)
        await record([of_acceptor(99, *(events[name] for name in unsent))])

        await record([of_acceptor(1, *effective.values(), tenant="clean", seq=500)])

        without_latest = STATES.replace("WHERE", "WHERE NOT meter_id LIKE 'latest%' AND")
        assert await fetch(api, "acme", without_latest) == await fetch(api, "clean", without_latest)
        assert await corrector.failed_checks() == []
        assert len(events) > len(effective) > 0
