"""CorrectionService as it runs: from the call to the published window."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from steelyard.ingest.v1 import correction_service_pb2 as pb
from steelyard.ingest.v1 import (
    correction_service_pb2_grpc,
    ingest_service_pb2,
    meter_pb2,
    usage_event_pb2,
    usage_service_pb2,
)
from tests.component.ingest.running import RunningIngest, Tenant, an_event, running_ingest, until
from tests.component.ingest.test_service import TOKENS, published_windows, refusal

APPLIED, WAITING = pb.CORRECTION_OUTCOME_APPLIED, pb.CORRECTION_OUTCOME_WAITING
ALREADY, REFUSED = pb.CORRECTION_OUTCOME_ALREADY, pb.CORRECTION_OUTCOME_REFUSED


@pytest.fixture(scope="module")
async def ingest(server_root: Path) -> AsyncIterator[RunningIngest]:
    async with running_ingest(server_root / "correcting-ingest") as running:
        yield running


def key(event_id: str) -> usage_service_pb2.EventKey:
    return usage_service_pb2.EventKey(source="gateway", event_id=event_id)


def of(tenant: Tenant) -> correction_service_pb2_grpc.CorrectionServiceAsyncStub:
    return correction_service_pb2_grpc.CorrectionServiceStub(tenant.ingest.channels["query"])


async def void(tenant: Tenant, *event_ids: str, request_id: str = "", actor: str = "ann") -> pb.VoidEventsResponse:
    request = pb.VoidEventsRequest(
        request_id=request_id or str(uuid.uuid4()), keys=map(key, event_ids), reason="a test machine", actor=actor
    )
    return await of(tenant).VoidEvents(request, metadata=tenant.key, timeout=20)


async def supersede(tenant: Tenant, event_id: str, event: usage_event_pb2.UsageEvent) -> pb.CorrectionResult:
    replacement = pb.Replacement(original=key(event_id), event=event)
    request = pb.ReplaceEventsRequest(
        request_id=str(uuid.uuid4()), replacements=[replacement], reason="wrong unit", actor="ann"
    )
    [result] = (await of(tenant).ReplaceEvents(request, metadata=tenant.key, timeout=20)).results
    return result


async def is_published(ingest: RunningIngest, tenant_id: str, value: str, event_count: int) -> None:
    """Return when the one window of the tenant is published like this."""

    async def published() -> bool:
        windows = await published_windows(ingest, tenant_id)
        return [(window.value, window.event_count) for window in windows] == [(value, event_count)]

    await until(published)


class TestTheWayOfACorrection:
    async def test_from_the_call_to_the_published_window(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("corrected")
        await tenant.create_meter(TOKENS)
        now = an_event("1", input="10", output="1")
        events = [now]
        for number in range(2, 5):
            event = an_event(str(number), input="10", output=str(number))
            event.event_time.CopyFrom(now.event_time)  # All in one window.
            events.append(event)
        await void(tenant, "4")
        await tenant.send(*events)

        answer = await void(tenant, "1", "1", "unknown")
        better = an_event("2b", input="100", output="0")
        better.event_time.CopyFrom(now.event_time)
        replaced = await supersede(tenant, "2", better)

        assert [result.outcome for result in answer.results] == [APPLIED, ALREADY, WAITING]
        assert (replaced.outcome, replaced.replacement) == (APPLIED, key("2b"))
        await is_published(ingest, "corrected", "113", 2)
        assert await tenant.failed_checks() == []
        await void(tenant, "3", "2b")
        await is_published(ingest, "corrected", "0", 0)
        assert await tenant.failed_checks() == []

    async def test_events_say_why_they_do_not_count(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("marked")
        await tenant.send(an_event("1"), an_event("2"), an_event("3"))
        await void(tenant, "1")
        await supersede(tenant, "2", an_event("2b"))

        answer = await tenant.usage.ListEvents(usage_service_pb2.ListEventsRequest(), metadata=tenant.key, timeout=20)

        marks = {stored.event.event_id: stored for stored in answer.events}
        assert marks["1"].correction.kind == usage_service_pb2.CORRECTION_KIND_VOID
        assert (marks["1"].correction.reason, marks["1"].correction.actor) == ("a test machine", "ann")
        assert marks["1"].correction.api_key_id in tenant.key[0][1]
        assert marks["2"].correction.replacement == key("2b")
        assert (marks["2b"].replaces, marks["2b"].HasField("correction")) == (key("2"), False)
        assert (marks["3"].HasField("correction"), marks["3"].HasField("replaces")) == (False, False)

    async def test_are_listed_newest_first_page_by_page(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("listed")
        await tenant.send(an_event("0"))
        for number in range(5):
            await void(tenant, str(number))
        found, request = [], pb.ListCorrectionsRequest(page_size=2)
        while True:
            page = await of(tenant).ListCorrections(request, metadata=tenant.key, timeout=20)
            found += [(item.key.event_id, item.waiting) for item in page.corrections]
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break

        assert found == [("4", True), ("3", True), ("2", True), ("1", True), ("0", False)]
        waiting = pb.ListCorrectionsRequest(waiting_only=True)
        page = await of(tenant).ListCorrections(waiting, metadata=tenant.key, timeout=20)
        assert len(page.corrections) == 4

    async def test_meters_that_do_not_merge_are_evaluated_without_what_was_voided(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("unmerged")
        users = meter_pb2.Meter(
            meter_id="users",
            event_type="llm.request",
            aggregation=meter_pb2.AGGREGATION_UNIQUE_COUNT,
            expression="user",
        )
        await tenant.create_meter(users)
        events = [an_event(str(number), user=name) for number, name in enumerate(("ann", "bob", "ann", "cyd"))]
        await tenant.send(*events)
        await void(tenant, "0", "3")
        start, end = (usage_service_pb2.QueryUsageRequest().start_time for _ in range(2))
        start.FromSeconds(events[0].event_time.seconds - 86_400)
        end.FromSeconds(events[0].event_time.seconds + 86_400)
        question = usage_service_pb2.QueryUsageRequest(meter_id="users", start_time=start, end_time=end)

        answer = await tenant.usage.QueryUsage(question, metadata=tenant.key, timeout=20)

        assert [(row.value, row.event_count) for row in answer.rows] == [("2", 2)]


class TestRefusals:
    async def test_of_requests(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("refused")
        request_id = str(uuid.uuid4())
        await void(tenant, "1", request_id=request_id)

        assert [r.outcome for r in (await void(tenant, "1", request_id=request_id)).results] == [WAITING]
        assert await refusal(void(tenant, "2", request_id=request_id)) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
        assert (await refusal(void(tenant)))[0] == "INVALID_ARGUMENT"
        assert (await refusal(void(tenant, "1", actor="")))[0] == "INVALID_ARGUMENT"
        assert (await refusal(void(tenant, "1", request_id="x")))[0] == "INVALID_ARGUMENT"
        other = pb.ListCorrectionsRequest(page_token="bad")
        listing = of(tenant).ListCorrections(other, metadata=tenant.key, timeout=20)
        assert await refusal(listing) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")

    async def test_of_replacements_by_the_rules_of_the_door(self, ingest: RunningIngest) -> None:
        tenant = await ingest.tenant("strictly", strict=True, past_limit_s=60)
        await ingest.customer("strictly", "cust-01")

        async def is_taken() -> bool:
            return list((await tenant.send(an_event("1"))).verdicts) != [ingest_service_pb2.EVENT_VERDICT_REJECTED]

        await until(is_taken)
        ahead, old = an_event("ahead"), an_event("old")
        ahead.event_time.seconds += 7_200
        old.event_time.seconds -= 300 * 86_400

        async def knows_the_customer() -> bool:
            result = await supersede(tenant, "1", ahead)
            return result.reason != "UNKNOWN_CUSTOMER"

        await until(knows_the_customer)
        assert (await supersede(tenant, "1", ahead)).reason == "IN_FUTURE"
        assert (await supersede(tenant, "1", an_event("x", "nobody"))).reason == "UNKNOWN_CUSTOMER"
        assert (await supersede(tenant, "unknown", old)).reason == "UNKNOWN_EVENT"
        # Older than any event that the tenant may send: what was sent wrongly can still be put right.
        assert (await supersede(tenant, "1", old)).outcome == APPLIED

    async def test_of_another_tenants_events(self, ingest: RunningIngest) -> None:
        owner, other = await ingest.tenant("owner"), await ingest.tenant("other")
        await owner.create_meter(TOKENS)
        await owner.send(an_event("1", input="1", output="1"))

        assert [result.outcome for result in (await void(other, "1")).results] == [WAITING]
        assert (await supersede(other, "1", an_event("2"))).outcome == REFUSED
        await is_published(ingest, "owner", "2", 1)

    async def test_of_a_replacement_at_no_instant(self, ingest: RunningIngest) -> None:
        """As columns it looks like another time."""
        tenant = await ingest.tenant("no-instant")
        await tenant.send(an_event("1"))
        wrong = an_event("1b")
        wrong.event_time.nanos = 1_000_000_000

        result = await supersede(tenant, "1", wrong)

        assert (result.outcome, result.reason) == (REFUSED, "NOT_AN_INSTANT")
