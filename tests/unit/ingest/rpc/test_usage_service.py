"""Requests of UsageService that the store should never see, and answers that clients could never receive."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from libs.errors import InvalidInput
from libs.rpc import Audience, Principal, next_page_token, set_current_principal
from libs.rpc.server import MAX_MESSAGE_BYTES
from services.ingest.domain.stored_event import EventKey, StoredEvent
from services.ingest.rpc.usage_service import UsageServicer
from services.ingest.usecases.query_events import EventSelection, EventStore
from services.ingest.usecases.query_usage import QueryUsage
from steelyard.ingest.v1 import usage_service_pb2 as pb

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


def a_large_event(number: int) -> StoredEvent:
    """As large as the door lets one be; the newest has the highest number."""
    return StoredEvent(
        source="gateway",
        event_id=f"e{number}",
        event_type="llm.request",
        customer_id="cust-01",
        time_ns=number,
        properties={f"{key:064}": "\U00010348" * 256 for key in range(32)},
        received_at=NOON,
        accepted_at=NOON,
        measured={},
        unassigned=False,
        batch_id=1,
        ordinal=number,
        correction=None,
        replaces=None,
        late=False,
    )


class FakeEvents:
    """The log of a tenant with large events."""

    def __init__(self, count: int) -> None:
        self._events = [a_large_event(number) for number in range(count, 0, -1)]

    async def event(self, tenant_id: str, key: EventKey) -> StoredEvent:
        return self._events[0]

    async def events(
        self, tenant_id: str, selection: EventSelection, before: tuple[int, int, int] | None, limit: int
    ) -> Sequence[StoredEvent]:
        behind = [event for event in self._events if before is None or event.time_ns < before[0]]
        return behind[:limit]


def a_servicer() -> UsageServicer:
    """Its caller is acme from now on, in the task of the test."""
    set_current_principal(Principal(Audience.TENANT, "acme"))
    return UsageServicer(cast(QueryUsage, None), cast(EventStore, FakeEvents(300)))


CONTEXT = cast(Any, None)


class TestListEvents:
    async def test_no_page_is_too_large_to_arrive(self) -> None:
        servicer = a_servicer()
        listed, token = list[str](), ""
        while True:
            page = await servicer.ListEvents(pb.ListEventsRequest(page_size=250, page_token=token), CONTEXT)
            assert page.ByteSize() < MAX_MESSAGE_BYTES
            listed += [event.event.event_id for event in page.events]
            token = page.next_page_token
            if not token:
                break

        assert listed == [f"e{number}" for number in range(300, 0, -1)]

    @pytest.mark.parametrize("last", [("1" * 30, "1", "1"), ("1", "1", str(1 << 31)), ("x", "1", "1")])
    async def test_a_token_that_somebody_made_up(self, last: Sequence[str]) -> None:
        servicer = a_servicer()
        token = next_page_token(pb.ListEventsRequest(), last)

        with pytest.raises(InvalidInput) as refused:
            await servicer.ListEvents(pb.ListEventsRequest(page_token=token), CONTEXT)

        assert refused.value.reason == "PAGE_TOKEN_INVALID"


class TestLookups:
    async def test_what_cannot_be_stored_is_not_looked_up(self) -> None:
        """PostgreSQL would refuse the comparison itself, and the caller would hear of an internal error."""
        servicer = a_servicer()
        key = pb.EventKey(source="gateway", event_id="a\x00b")

        for call, field in [
            (servicer.GetEvent(pb.GetEventRequest(source="\x00", event_id="1"), CONTEXT), "source"),
            (servicer.ListEvents(pb.ListEventsRequest(customer_id="\x00"), CONTEXT), "customer_id"),
            (servicer.GetEventStatus(pb.GetEventStatusRequest(keys=[key]), CONTEXT), "keys[0].event_id"),
            (servicer.QueryUsage(a_question(meter_id="\x00"), CONTEXT), "meter_id"),
        ]:
            with pytest.raises(InvalidInput) as refused:
                await call
            assert [violation.field for violation in refused.value.violations] == [field]


def a_question(**fields: str) -> pb.QueryUsageRequest:
    request = pb.QueryUsageRequest(**fields)  # type: ignore[arg-type]
    request.start_time.FromDatetime(NOON)
    request.end_time.FromDatetime(NOON)
    return request
