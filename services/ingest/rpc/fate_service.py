"""FateService."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from libs.errors import InvalidInput
from libs.rpc import current_tenant, fitting, next_page_token, page_cursor, page_size
from services.ingest.domain.fate_counts import FateCounts
from services.ingest.rpc.requests import (
    Context,
    check_storable,
    cursor_instant,
    period_between,
    required_time,
)
from services.ingest.usecases.audit_fates import FateDifference
from services.ingest.usecases.fate_counts import CountedFates, FateCountStore, FateQuestion, Span
from services.ingest.usecases.list_fate_differences import FateDifferenceStore
from services.ingest.wire.times import time_to_pb
from steelyard.ingest.v1 import fate_service_pb2 as pb
from steelyard.ingest.v1 import fate_service_pb2_grpc

_SPANS = {
    pb.FATE_SPAN_UNSPECIFIED: Span.HOUR,
    pb.FATE_SPAN_HOUR: Span.HOUR,
    pb.FATE_SPAN_DAY: Span.DAY,
    pb.FATE_SPAN_ALL: Span.ALL,
}


class FateServicer(fate_service_pb2_grpc.FateServiceServicer):
    """Translates; no rules live here."""

    def __init__(self, store: FateCountStore, differences: FateDifferenceStore) -> None:
        self._store = store
        self._differences = differences

    async def GetFateCounts(self, request: pb.GetFateCountsRequest, context: Context) -> pb.GetFateCountsResponse:
        question = _question(request)
        size, after = page_size(request), _after(page_cursor(request, 2))
        found = await self._store.counts(current_tenant(), question, after, size + 1)
        page = fitting([_counted_to_pb(item) for item in found[:size]])
        token = ""
        if len(found) > len(page):
            last = found[len(page) - 1]
            token = next_page_token(request, [last.start.isoformat(), last.source])
        total = await self._store.total(current_tenant(), question)
        return pb.GetFateCountsResponse(counts=page, total=_counts_to_pb(total), next_page_token=token)

    async def ListFateDifferences(
        self, request: pb.ListFateDifferencesRequest, context: Context
    ) -> pb.ListFateDifferencesResponse:
        size, cursor = page_size(request), page_cursor(request, 3)
        after = None if cursor is None else (cursor_instant(cursor[0]), cursor[1], cursor[2])
        found = await self._differences.list(current_tenant(), request.include_resolved, after, size + 1)
        page = fitting([_difference_to_pb(item) for item in found[:size]])
        token = ""
        if len(found) > len(page):
            last = found[len(page) - 1]
            token = next_page_token(request, [last.hour.isoformat(), last.equation, last.subject])
        response = pb.ListFateDifferencesResponse(differences=page, next_page_token=token)
        progress = await self._differences.progress(current_tenant())
        if progress is not None:
            response.checked_before_time.CopyFrom(time_to_pb(progress.next_hour))
            response.check_time.CopyFrom(time_to_pb(progress.checked_at))
        return response


def _question(request: pb.GetFateCountsRequest) -> FateQuestion:
    """:raises InvalidInput: if the time, the sources or the span cannot be asked for"""
    start = required_time(request.start_time, request.HasField("start_time"), "start_time")
    end = required_time(request.end_time, request.HasField("end_time"), "end_time")
    check_storable(**{f"sources[{index}]": source for index, source in enumerate(request.sources)})
    if request.span not in _SPANS:
        raise InvalidInput.of("span", "UNKNOWN", "must be HOUR, DAY or ALL")
    return FateQuestion(period_between(start, end, "end_time"), tuple(request.sources), _SPANS[request.span])


def _after(cursor: tuple[str, ...] | None) -> tuple[datetime, str] | None:
    return None if cursor is None else (cursor_instant(cursor[0]), cursor[1])


def _counted_to_pb(item: CountedFates) -> pb.CountedFates:
    return pb.CountedFates(start_time=time_to_pb(item.start), source=item.source, counts=_counts_to_pb(item.counts))


def _counts_to_pb(counts: FateCounts) -> pb.FateCounts:
    return pb.FateCounts(**asdict(counts))


def _difference_to_pb(item: FateDifference) -> pb.FateDifference:
    return pb.FateDifference(
        equation=item.equation,
        hour_start_time=time_to_pb(item.hour),
        subject=item.subject,
        left=item.left,
        right=item.right,
        first_seen_time=time_to_pb(item.first_seen),
        last_seen_time=time_to_pb(item.last_seen),
        resolve_time=None if item.resolved_at is None else time_to_pb(item.resolved_at),
    )
