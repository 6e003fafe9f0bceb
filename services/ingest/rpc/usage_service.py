"""UsageService."""

from __future__ import annotations

from libs.errors import InvalidInput
from libs.periods import BucketSize
from libs.rpc import current_tenant, fitting, next_page_token, page_cursor, page_size
from services.ingest.domain.meter import FilterOperator, PropertyFilter
from services.ingest.rpc.requests import (
    Context,
    check_storable,
    cursor_instant,
    cursor_invalid,
    optional_time,
    required_time,
)
from services.ingest.usecases.query_events import EventSelection, EventStore
from services.ingest.usecases.query_usage import QueryUsage
from services.ingest.usecases.usage_question import UsageQuestion
from services.ingest.wire.batch_statuses import batch_status_to_pb, receipts_from_pb
from services.ingest.wire.events import counts_to_pb, event_to_pb, exception_to_pb, status_to_pb
from services.ingest.wire.meters import filter_from_pb
from services.ingest.wire.usage_rows import usage_rows_to_pb
from steelyard.ingest.v1 import meter_pb2, usage_service_pb2_grpc
from steelyard.ingest.v1 import usage_service_pb2 as pb

_SIZES = {
    int(pb.WINDOW_SIZE_UNSPECIFIED): None,
    int(pb.WINDOW_SIZE_QUARTER_HOUR): BucketSize.QUARTER_HOUR,
    int(pb.WINDOW_SIZE_HOUR): BucketSize.HOUR,
    int(pb.WINDOW_SIZE_DAY): BucketSize.DAY,
    int(pb.WINDOW_SIZE_WEEK): BucketSize.WEEK,
    int(pb.WINDOW_SIZE_MONTH): BucketSize.MONTH,
    int(pb.WINDOW_SIZE_MINUTE): BucketSize.MINUTE,
    int(pb.WINDOW_SIZE_BILLING_PERIOD): BucketSize.BILLING_PERIOD,
}
_MAX_STATUS_KEYS, _MAX_TRACED_KEYS = 1_000, 100


class UsageServicer(usage_service_pb2_grpc.UsageServiceServicer):
    """Translates; no rules live here."""

    def __init__(self, query_usage: QueryUsage, events: EventStore) -> None:
        self._query_usage = query_usage
        self._events = events

    async def QueryUsage(self, request: pb.QueryUsageRequest, context: Context) -> pb.QueryUsageResponse:
        size = page_size(request, default=1_000, maximum=10_000)
        cursor = page_cursor(request, 3)
        after = None if cursor is None else (_number(cursor[0], bits=32), cursor[1], cursor[2])
        times, rows = await self._query_usage(_question(request), after, size + 1)
        page = fitting(usage_rows_to_pb(rows[:size], times))
        token = ""
        if len(rows) > len(page):
            index, customer_id, dimensions = rows[len(page) - 1].place
            token = next_page_token(request, [str(index), customer_id, dimensions])
        return pb.QueryUsageResponse(rows=page, next_page_token=token)

    async def GetEvent(self, request: pb.GetEventRequest, context: Context) -> pb.GetEventResponse:
        check_storable(source=request.source, event_id=request.event_id)
        event = await self._events.event(current_tenant(), (request.source, request.event_id))
        return pb.GetEventResponse(event=event_to_pb(event))

    async def ListEvents(self, request: pb.ListEventsRequest, context: Context) -> pb.ListEventsResponse:
        check_storable(customer_id=request.customer_id, event_type=request.event_type)
        size, cursor = page_size(request), page_cursor(request, 3)
        selection = EventSelection(
            customer_id=request.customer_id,
            event_type=request.event_type,
            start=optional_time(request.start_time, request.HasField("start_time"), "start_time"),
            end=optional_time(request.end_time, request.HasField("end_time"), "end_time"),
            unassigned_only=request.unassigned_only,
        )
        before = None if cursor is None else (_number(cursor[0]), _number(cursor[1]), _number(cursor[2], bits=32))
        events = await self._events.events(current_tenant(), selection, before, size + 1)
        page = fitting([event_to_pb(event) for event in events[:size]])
        token = ""
        if len(events) > len(page):
            last = events[len(page) - 1]
            token = next_page_token(request, [str(last.time_ns), str(last.batch_id), str(last.ordinal)])
        return pb.ListEventsResponse(events=page, next_page_token=token)

    async def GetEventStatus(self, request: pb.GetEventStatusRequest, context: Context) -> pb.GetEventStatusResponse:
        if not 1 <= len(request.keys) <= _MAX_STATUS_KEYS:
            raise InvalidInput.of("keys", "WRONG_NUMBER", f"must be 1 to {_MAX_STATUS_KEYS}")
        keys = [(key.source, key.event_id) for key in request.keys]
        for index, (source, event_id) in enumerate(keys):
            check_storable(**{f"keys[{index}].source": source, f"keys[{index}].event_id": event_id})
        if request.trace and len(keys) > _MAX_TRACED_KEYS:
            raise InvalidInput.of("keys", "WRONG_NUMBER", f"must be at most {_MAX_TRACED_KEYS} with trace")
        statuses = await self._events.statuses(current_tenant(), keys)
        traces = await self._events.traces(current_tenant(), keys) if request.trace else {}
        return pb.GetEventStatusResponse(statuses=[status_to_pb(status, traces.get(status.key)) for status in statuses])

    async def GetBatchStatuses(
        self, request: pb.GetBatchStatusesRequest, context: Context
    ) -> pb.GetBatchStatusesResponse:
        receipts = receipts_from_pb(request.receipts)
        for index, (epoch, _) in enumerate(receipts):
            check_storable(**{f"receipts[{index}].acceptor_epoch": epoch})
        statuses = await self._events.batch_statuses(current_tenant(), receipts)
        return pb.GetBatchStatusesResponse(statuses=[batch_status_to_pb(status) for status in statuses])

    async def ListEventExceptions(
        self, request: pb.ListEventExceptionsRequest, context: Context
    ) -> pb.ListEventExceptionsResponse:
        size, cursor = page_size(request), page_cursor(request, 3)
        before = (
            None if cursor is None else (cursor_instant(cursor[0]), _number(cursor[1]), _number(cursor[2], bits=32))
        )
        found = await self._events.exceptions(current_tenant(), before, size + 1)
        page = fitting([exception_to_pb(item) for item in found[:size]])
        token = ""
        if len(found) > len(page):
            last = found[len(page) - 1]
            token = next_page_token(request, [last.received_at.isoformat(), str(last.batch_id), str(last.ordinal)])
        return pb.ListEventExceptionsResponse(exceptions=page, next_page_token=token)

    async def GetEventCounts(self, request: pb.GetEventCountsRequest, context: Context) -> pb.GetEventCountsResponse:
        return counts_to_pb(await self._events.counts(current_tenant()))


def _question(request: pb.QueryUsageRequest) -> UsageQuestion:
    if request.window_size not in _SIZES:
        raise InvalidInput.of("window_size", "UNKNOWN", "is not a window size")
    check_storable(meter_id=request.meter_id, customer_id=request.customer_id)
    return UsageQuestion(
        tenant_id=current_tenant(),
        meter_id=request.meter_id,
        customer_id=request.customer_id,
        start=required_time(request.start_time, request.HasField("start_time"), "start_time"),
        end=required_time(request.end_time, request.HasField("end_time"), "end_time"),
        size=_SIZES[request.window_size],
        time_zone=request.time_zone,
        group_by=tuple(request.group_by),
        by_customer=request.group_by_customer,
        filters=tuple(_dimension(item, f"filters[{index}]") for index, item in enumerate(request.filters)),
        anchor_day=request.anchor_day,
        top_groups=request.top_groups,
        include_others=request.include_others,
    )


def _dimension(message: meter_pb2.PropertyFilter, field: str) -> PropertyFilter:
    item = filter_from_pb(message, field)
    if item.operator is not FilterOperator.EQUALS or item.values:
        raise InvalidInput.of(f"{field}.operator", "NOT_ALLOWED", "groups are chosen by equal values")
    return item


def _number(text: str, *, bits: int = 64) -> int:
    try:
        number = int(text)
    except ValueError as error:
        raise cursor_invalid() from error
    if not -(1 << bits - 1) <= number < 1 << bits - 1:
        raise cursor_invalid()
    return number
