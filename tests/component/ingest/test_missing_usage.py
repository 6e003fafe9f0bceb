"""Numbers that do not come, sources that fall silent, manifests that the log does not agree with."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from libs.database import Database, raw
from libs.errors import InvalidInput, RequestIdReused
from services.ingest.domain.findings import Finding, FindingKind, ManifestLine, ManifestState, Resolution
from services.ingest.usecases.errors import FindingAlreadyResolved, FindingNotFound, MeterNotFound
from services.ingest.usecases.missing_usage_requests import MutationId, ResolutionRequest
from services.ingest.usecases.record_usage import RecordUsage
from tests.component.ingest.builders import NOON, Event, a_batch, a_meter, add_meters, fetch
from tests.component.ingest.missing import LATER, Search, numbered

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def search(worker: Database, api: Database) -> Search:
    return Search(worker, api)


def missing(finding: Finding) -> tuple[object, ...]:
    return tuple(finding.evidence[name] for name in ("first_missing", "last_missing", "missing_count"))


async def numbers_of(api: Database, tenant: str = "acme") -> list[tuple[object, ...]]:
    return await fetch(
        api,
        tenant,
        "SELECT source, sequence_epoch, numbers::text FROM source_sequences ORDER BY source, sequence_epoch",
    )


class TestGaps:
    async def test_a_gap_is_found_when_it_has_outlasted_the_allowance(
        self, record: RecordUsage, search: Search
    ) -> None:
        await record([numbered(1, [1, 2, 3])])
        await record([numbered(2, [6, 7], at=NOON + SECOND)])

        await search.look(NOON + timedelta(minutes=4))
        assert await search.open() == []
        await search.look()

        (found,) = await search.open()
        assert (found.kind, found.source, found.opened_at) == (FindingKind.SEQUENCE_GAP, "gateway", LATER)
        assert missing(found) == (4, 5, 2)
        times = [datetime.fromisoformat(str(found.evidence[name])) for name in ("before_time", "after_time")]
        assert times == [NOON, NOON + SECOND]

    async def test_what_still_waits_in_a_long_queue_is_none(self, record: RecordUsage, search: Search) -> None:
        """Both were received at noon, and recorded hours later; of these one recorder was faster."""
        await search.expect(holding=[FindingKind.SEQUENCE_GAP])
        await record([numbered(2, [2])])

        await search.look(NOON + 9 * HOUR, watermark=NOON - SECOND)
        assert await search.open() == []
        assert await search.held(NOON - SECOND) == []
        await record([numbered(1, [1])])
        await search.look(NOON + 9 * HOUR)

        assert await search.all() == []

    async def test_it_shrinks_and_ends_by_itself(self, record: RecordUsage, search: Search) -> None:
        await record([numbered(1, [1]), numbered(2, [6])])
        await search.look()

        await record([numbered(3, [2, 4])])
        await search.look(LATER + SECOND)
        (found,) = await search.open()
        assert missing(found) == (3, 5, 2)
        await record([numbered(4, [5, 3])])
        await search.look(LATER + 2 * SECOND)

        assert await search.open() == []
        (ended,) = await search.all()
        assert (ended.finding_id, ended.resolution) == (found.finding_id, Resolution.ITSELF)
        assert ended.resolved_at == LATER + 2 * SECOND

    @pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
    async def test_no_order_of_batches_and_no_redelivery_makes_a_gap(
        self, record: RecordUsage, search: Search, api: Database, order: tuple[int, ...]
    ) -> None:
        batches = [numbered(1, [1, 2]), numbered(2, [4, 3]), numbered(3, [5]), numbered(4, [2, 6, 5])]
        for index in order:
            await record([batches[index]])
            await record([batches[index]])

        await search.look()

        assert await search.all() == []
        assert await numbers_of(api) == [("gateway", "life-1", "{[1,7)}")]
        assert await fetch(api, "acme", "SELECT numbers FROM sequence_gaps") == []

    async def test_numbers_of_a_life_begin_with_one_those_without_anywhere(
        self, record: RecordUsage, search: Search
    ) -> None:
        await record([numbered(1, [3], epoch="life-2"), numbered(2, [30], epoch="")])

        await search.look()

        (found,) = await search.open()
        assert (found.evidence["sequence_epoch"], missing(found)) == ("life-2", (1, 2, 2))
        assert found.evidence["before_time"] is None

    async def test_several_gaps_of_a_chunk_are_told_apart(self, record: RecordUsage, search: Search) -> None:
        await record([numbered(1, [1, 3, 6]), numbered(2, [2], source="other", epoch="")])

        await search.look()
        await search.look(LATER + SECOND)

        assert sorted(map(missing, await search.open())) == [(2, 2, 1), (4, 5, 2)]

    async def test_refused_events_have_come(self, record: RecordUsage, search: Search, api: Database) -> None:
        """By the recorder; what the door refuses keeps its number on its way, see the tests of the wire."""
        await add_meters(api, a_meter())  # Every event lacks its property.
        await record([numbered(1, [1, 2])])

        await search.look()

        assert await search.all() == []
        assert await numbers_of(api) == [("gateway", "life-1", "{[1,3)}")]

    async def test_what_a_person_has_resolved_stays_so(self, record: RecordUsage, search: Search) -> None:
        await record([numbered(1, [1, 4])])
        await search.look()
        (found,) = await search.open()

        resolved = await search.resolve(found)
        await search.look(LATER + HOUR)

        assert (resolved.resolution, resolved.reason, resolved.actor) == (Resolution.PERSON, "lost", "ann")
        assert await search.open() == []
        assert [item.finding_id for item in await search.all()] == [found.finding_id]

    async def test_a_source_that_does_not_count_in_ones_is_bounded(
        self, record: RecordUsage, search: Search, api: Database
    ) -> None:
        await record([numbered(1, range(1, 2_001, 2)), numbered(2, range(2_001, 2_101, 2))])

        await search.look()
        await search.look(LATER + SECOND)

        (found,) = await search.open()
        assert (found.kind, missing(found)) == (FindingKind.SEQUENCE_UNUSABLE, (1, 2_099, 0))
        assert await numbers_of(api) == [("gateway", "life-1", "{[1,2100)}")]

    async def test_tenants_see_their_own(self, record: RecordUsage, search: Search) -> None:
        await record([numbered(1, [1, 4], tenant="other")])
        await search.look()

        assert await search.open() == []
        (found,) = await search.open("other")
        with pytest.raises(FindingNotFound):
            await search.resolve(found)

    async def test_events_without_numbers_leave_nothing(
        self, record: RecordUsage, search: Search, api: Database
    ) -> None:
        await record([a_batch(1, Event("1"), Event("2"))])
        await search.look()

        assert await numbers_of(api) == []
        assert await fetch(api, "acme", "SELECT source FROM source_activity") == []


class TestResolving:
    async def test_is_done_once_per_request(self, record: RecordUsage, search: Search) -> None:
        await record([numbered(1, [1, 3])])
        await search.look()
        (found,) = await search.open()
        request = ResolutionRequest(found.finding_id, "lost", "ann")
        known = MutationId("acme", "3f0c0000-0000-4000-8000-000000000000", b"meaning")

        first = await search.findings.resolve(known, request, LATER)

        assert await search.findings.resolve(known, request, LATER + HOUR) == first
        with pytest.raises(RequestIdReused):
            await search.findings.resolve(MutationId("acme", known.request_id, b"other"), request, LATER)
        with pytest.raises(FindingAlreadyResolved):
            await search.resolve(found)


class TestSilence:
    async def test_of_a_heartbeat(self, record: RecordUsage, search: Search) -> None:
        await search.expect("gateway", heartbeat=HOUR)
        await record([a_batch(1, Event("1"))])

        await search.look(NOON + HOUR)
        assert await search.open() == []
        await search.look(NOON + HOUR + SECOND)
        (found,) = await search.open()
        assert (found.kind, found.evidence["expected_within_s"]) == (FindingKind.SOURCE_SILENT, 3_600)
        assert datetime.fromisoformat(str(found.evidence["last_time"])) == NOON
        assert found.evidence["is_learned"] is False

        await record([a_batch(2, Event("2"), received_at=NOON + 2 * HOUR)])
        await search.look(NOON + 2 * HOUR)
        assert [item.resolution for item in await search.all()] == [Resolution.ITSELF]

    async def test_of_a_source_that_never_sent(self, search: Search) -> None:
        await search.expect("night-job", heartbeat=HOUR)

        await search.look(NOON + HOUR)
        assert await search.open() == []
        await search.look(NOON + HOUR + SECOND)

        (found,) = await search.open()
        assert (found.source, found.evidence["last_time"]) == ("night-job", None)

    async def test_that_a_person_resolved_is_reported_again_only_after_it_sent(
        self, record: RecordUsage, search: Search
    ) -> None:
        await search.expect(heartbeat=HOUR)
        await record([a_batch(1, Event("1"))])
        await search.look(NOON + 2 * HOUR)
        await search.resolve((await search.open())[0])

        await search.look(NOON + 9 * HOUR)
        assert await search.open() == []
        await record([a_batch(2, Event("2"), received_at=NOON + 10 * HOUR)])
        await search.look(NOON + 12 * HOUR)

        assert len(await search.open()) == 1

    async def test_by_its_own_habit(self, record: RecordUsage, search: Search) -> None:
        """Pauses of 100 s count as less than 128 s, so three times that is too long."""
        await search.expect(learns=True)
        for number in range(21):
            await record([a_batch(number + 1, Event(str(number)), received_at=NOON + number * 100 * SECOND)])
        last = NOON + 2_000 * SECOND

        await search.look(last + 384 * SECOND)
        assert await search.open() == []
        await search.look(last + 385 * SECOND)

        (found,) = await search.open()
        assert (found.evidence["expected_within_s"], found.evidence["is_learned"]) == (384, True)

    async def test_is_not_learned_from_too_little(self, record: RecordUsage, search: Search) -> None:
        await search.expect(learns=True)
        for number in range(20):
            await record([a_batch(number + 1, Event(str(number)), received_at=NOON + number * SECOND)])

        await search.look(NOON + 24 * HOUR)

        assert await search.open() == []

    async def test_goes_by_the_clock_of_the_tenant(self, record: RecordUsage, search: Search) -> None:
        await search.expect(heartbeat=HOUR)
        await record([a_batch(1, Event("1"))])

        await search.look(NOON + 9 * HOUR, {"acme": NOON + HOUR})
        assert await search.open() == []
        await search.look(NOON, {"acme": NOON + 2 * HOUR})

        assert len(await search.open()) == 1


class TestManifests:
    @pytest.fixture(autouse=True)
    async def usage(self, api: Database, record: RecordUsage, search: Search) -> None:
        """Two customers of the source, and another source."""
        await add_meters(api, a_meter(), a_meter("calls", expression=""))
        await record(
            [
                a_batch(
                    1,
                    Event("1", {"tokens": "10"}),
                    Event("2", {"tokens": "0.5"}, customer_id="cust-02"),
                    Event("3", {"tokens": "7"}, at=NOON + HOUR),  # Behind the period.
                    Event("4", {"tokens": "99"}, source="other"),
                )
            ]
        )
        await search.pass_watermark(NOON + SECOND)

    async def test_agree(self, search: Search) -> None:
        manifest = await search.submit(
            ManifestLine("tokens", "", 2, Decimal("10.50")),
            ManifestLine("tokens", "cust-02", 1, Decimal("0.5")),
            ManifestLine("calls", "cust-01", 1, None),
            ManifestLine("calls", "cust-03", 0, Decimal(0)),
        )
        assert (manifest.version, manifest.state) == (1, ManifestState.PENDING)

        await search.look(NOON + 2 * HOUR)

        (stored,) = await search.manifests.list("acme", None, 10)
        assert (stored.state, stored.compared_at) == (ManifestState.AGREED, NOON + 2 * HOUR)
        assert await search.all() == []

    async def test_disagree_with_both_numbers_until_the_rest_comes(self, search: Search, record: RecordUsage) -> None:
        manifest = await search.submit(
            ManifestLine("tokens", "", 3, Decimal("12.5")), ManifestLine("calls", "cust-01", 1, None)
        )
        await search.look(NOON + 2 * HOUR)

        (found,) = await search.open()
        assert (found.kind, found.source) == (FindingKind.MANIFEST_DISAGREES, "gateway")
        evidence: Any = found.evidence
        assert (evidence["manifest_id"], evidence["difference_count"]) == (manifest.manifest_id, 1)
        assert evidence["differences"] == [
            {
                "meter_id": "tokens",
                "customer_id": "",
                "declared_count": 3,
                "recorded_count": 2,
                "declared_sum": "12.5",
                "recorded_sum": "10.5",
            }
        ]

        await record([a_batch(2, Event("5", {"tokens": "2"}, customer_id="cust-02"), received_at=NOON + 2 * HOUR)])
        await search.look(NOON + 3 * HOUR)

        assert [item.resolution for item in await search.all()] == [Resolution.ITSELF]
        assert (await search.manifests.list("acme", None, 10))[0].state is ManifestState.AGREED

    async def test_are_compared_when_the_allowance_and_the_watermark_have_passed(self, search: Search) -> None:
        await search.expect("gateway", allowance=HOUR)
        await search.submit(ManifestLine("calls", "", 9, None), at=NOON + HOUR)

        await search.look(NOON + 2 * HOUR - SECOND)
        assert await search.open() == []
        await search.look(NOON + 2 * HOUR, watermark=NOON + HOUR)
        assert await search.open() == []  # What was acknowledged before may not be recorded yet.
        await search.look(NOON + 2 * HOUR, watermark=NOON + HOUR + SECOND)

        assert len(await search.open()) == 1

    async def test_a_newer_one_replaces_it_and_ends_its_finding(self, search: Search) -> None:
        await search.submit(ManifestLine("calls", "", 9, None))
        await search.look(NOON + 2 * HOUR)
        assert len(await search.open()) == 1

        newer = await search.submit(ManifestLine("calls", "", 2, None))
        assert newer.version == 2
        assert await search.open() == []
        await search.look(NOON + 3 * HOUR)

        states = [item.state for item in await search.manifests.list("acme", None, 10)]
        assert sorted(states) == [ManifestState.AGREED, ManifestState.REPLACED]
        assert await search.open() == []

    async def test_that_a_person_resolved_opens_none_again(self, search: Search) -> None:
        await search.submit(ManifestLine("calls", "", 9, None))
        await search.look(NOON + 2 * HOUR)
        await search.resolve((await search.open())[0])

        await search.look(NOON + 9 * HOUR)

        assert await search.open() == []

    async def test_name_meters_that_exist_and_add_up(self, search: Search, api: Database) -> None:
        with pytest.raises(MeterNotFound):
            await search.submit(ManifestLine("nothing", "", 1, None))
        assert await search.manifests.list("acme", None, 10) == []


class TestHolds:
    async def test_a_due_gap_holds_before_the_search_has_seen_it_and_until_it_is_resolved(
        self, record: RecordUsage, search: Search
    ) -> None:
        await search.expect("gateway", holding=[FindingKind.SEQUENCE_GAP])
        await record([numbered(1, [1, 3]), numbered(2, [1, 3], tenant="other")])

        assert await search.held(NOON) == ["acme"]
        await search.look(NOON)
        assert await search.held(NOON) == ["acme"]
        (found,) = await search.open()
        assert found.holds_invoices
        await search.resolve(found)

        assert await search.held(NOON) == []

    async def test_numbers_that_come_let_go_even_before_the_search_knows(
        self, record: RecordUsage, search: Search
    ) -> None:
        await search.expect(holding=[FindingKind.SEQUENCE_GAP], allowance=HOUR)
        await record([numbered(1, [1, 3])])
        assert await search.held(NOON) == []
        assert await search.held(NOON + HOUR) == ["acme"]

        await record([numbered(2, [2])])

        assert await search.held(NOON + HOUR) == []

    async def test_a_manifest_holds_from_its_submission_until_it_agrees(
        self, record: RecordUsage, search: Search, api: Database
    ) -> None:
        await add_meters(api, a_meter("calls", expression=""))
        await search.expect(holding=[FindingKind.MANIFEST_DISAGREES])
        await record([a_batch(1, Event("1"))])
        await search.pass_watermark(NOON + SECOND)
        await search.submit(ManifestLine("calls", "", 2, None))

        assert await search.held() == ["acme"]
        await search.look(NOON + 2 * HOUR)
        assert await search.held() == ["acme"]
        await record([a_batch(2, Event("2"))])
        await search.look(NOON + 3 * HOUR)

        assert await search.held() == []

    async def test_only_kinds_that_are_named_hold_and_only_while_they_are(
        self, record: RecordUsage, search: Search
    ) -> None:
        await search.expect(holding=[FindingKind.SOURCE_SILENT])
        await search.expect("gateway", holding=[])
        await record([numbered(1, [1, 3]), numbered(2, [1, 3], source="other")])
        await search.look()
        assert [item.holds_invoices for item in await search.open()] == [False, False]
        assert await search.held() == []

        await search.expect(holding=[FindingKind.SEQUENCE_GAP])

        assert {item.source: item.holds_invoices for item in await search.open()} == {"gateway": False, "other": True}
        assert await search.held() == ["acme"]

    async def test_numbers_that_cannot_be_used_hold_before_the_search_has_seen_them_and_until_a_person_says_so(
        self, record: RecordUsage, search: Search
    ) -> None:
        """With the numbers went the gaps that would have held."""
        await search.expect(holding=[FindingKind.SEQUENCE_GAP, FindingKind.SEQUENCE_UNUSABLE])
        await record([numbered(1, range(1, 2_003, 2))])

        assert await search.held() == ["acme"]
        await search.look()
        assert await search.held() == ["acme"]
        await search.resolve((await search.open())[0])

        assert await search.held() == []

    async def test_a_question_that_fails_holds_those_whom_it_is_about(
        self, search: Search, worker: Database, ingest_database_owner: Any
    ) -> None:
        await search.expect(holding=[FindingKind.SOURCE_SILENT])
        await ingest_database_owner.execute("ALTER TABLE findings RENAME TO findings_away")

        assert await search.held() == ["acme"]
        async with worker.queue_transaction() as connection:
            assert await (await raw(connection)).fetchval("SELECT current_setting('app.tenants')") == ""


class TestExpectations:
    async def test_are_listed_with_what_is_known(self, record: RecordUsage, search: Search) -> None:
        await search.expect("quiet", heartbeat=HOUR, holding=[FindingKind.SOURCE_SILENT])
        await record([a_batch(1, Event("1"))])
        await search.look(NOON + 2 * HOUR)

        listed = await search.sources.list("acme", None, 10)

        assert [(item.source, item.last_at, item.open_findings) for item in listed] == [
            ("gateway", NOON, 0),
            ("quiet", None, 1),
        ]
        assert listed[1].expectation is not None
        assert listed[1].expectation.holding_kinds == {FindingKind.SOURCE_SILENT}
        assert [item.source for item in await search.sources.list("acme", "gateway", 10)] == ["quiet"]

    async def test_two_searches_at_once_find_everything_once(self, record: RecordUsage, search: Search) -> None:
        await record([numbered(1, [1, 3])])
        await search.look()
        await Search(search.worker, search.worker).look(LATER)

        assert len(await search.all()) == 1


def test_a_manifest_is_checked_as_a_whole() -> None:
    from services.ingest.usecases.missing_usage_requests import ManifestRequest

    line = ManifestLine("calls", "", -1, None)
    request = ManifestRequest("", NOON, NOON, [line, line])

    with pytest.raises(InvalidInput) as refused:
        request.check(MutationId("acme", "", b""), NOON - HOUR)

    assert {(item.field, item.reason) for item in refused.value.violations} == {
        ("request_id", "REQUIRED"),
        ("manifest.source", "REQUIRED"),
        ("manifest.end_time", "NOT_AFTER_START"),
        ("manifest.end_time", "NOT_OVER"),
        ("manifest.lines[0].event_count", "NEGATIVE"),
        ("manifest.lines[1].event_count", "NEGATIVE"),
        ("manifest.lines[1]", "TWICE"),
    }
