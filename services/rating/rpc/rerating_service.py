"""ReratingService: translates, no rules."""

from __future__ import annotations

import copy
import hashlib
from datetime import datetime

from libs.errors import InvalidInput, Violation
from libs.ids import check_request_id, check_resource_id, check_text
from libs.rpc import current_tenant, fitting, next_page_token, page_cursor, page_size
from services.rating.domain.rerating import Cause, ReratedPage
from services.rating.rpc.context import Context
from services.rating.rpc.period_scope import place_of, scope_of
from services.rating.usecases.rerate import ListReratedCharges, Rerate, RerateRequest
from services.rating.wire.reratings import problem_to_pb, rerated_to_pb
from steelyard.rating.v1 import rerating_service_pb2 as pb
from steelyard.rating.v1 import rerating_service_pb2_grpc as pb_grpc

_PERIODS_PER_CALL = 25
"""With 200 prices each, and the longest ids and numbers, their changes still fit into one answer."""
_REASON_LENGTH_MAX, _ACTOR_LENGTH_MAX = 500, 200


class ReratingServicer(pb_grpc.ReratingServiceServicer):
    """Charges of the calling tenant, made anew."""

    def __init__(self, *, rerate: Rerate, list_rerated_charges: ListReratedCharges) -> None:
        self._rerate = rerate
        self._list = list_rerated_charges

    async def Rerate(self, request: pb.RerateRequest, context: Context) -> pb.RerateResponse:
        size = page_size(request, default=_PERIODS_PER_CALL, maximum=_PERIODS_PER_CALL)
        # Each page is a request of its own, with an id and perhaps a reason of its own.
        asked = copy.deepcopy(request)
        asked.request_id = asked.reason = asked.actor = ""
        scope = scope_of(request, has_period=request.HasField("period"))
        after = place_of(asked)
        if request.dry_run:
            page, cause = await self._rerate.dry_run(scope, after, size), None
        else:
            page = await self._rerate(_mutation(request), scope, after, size)
            cause = page.cause
        return _page_to_pb(page, cause, "" if page.next_after is None else _token(asked, page))

    async def ListReratedCharges(
        self, request: pb.ListReratedChargesRequest, context: Context
    ) -> pb.ListReratedChargesResponse:
        size, cursor = page_size(request), page_cursor(request, 3)
        if request.subscription_id and (violation := check_resource_id(request.subscription_id, "subscription_id")):
            raise InvalidInput([violation])
        try:
            before = None if cursor is None else (datetime.fromisoformat(cursor[0]), cursor[1], int(cursor[2]))
        except ValueError as error:
            raise InvalidInput.of("page_token", "PAGE_TOKEN_INVALID", "is not a token of this list") from error
        found = await self._list(current_tenant(), request.subscription_id, before, size + 1)
        page = fitting([rerated_to_pb(change, cause) for change, cause, _ in found[:size]])
        token = ""
        if len(found) > len(page):
            at, request_id, number = found[len(page) - 1][2]
            token = next_page_token(request, [at.isoformat(), request_id, str(number)])
        return pb.ListReratedChargesResponse(charges=page, next_page_token=token)


def _mutation(request: pb.RerateRequest) -> RerateRequest:
    reason = check_text(request.reason, "reason", _REASON_LENGTH_MAX)
    actor = check_text(request.actor, "actor", _ACTOR_LENGTH_MAX) if request.actor else None
    found: list[Violation | None] = [check_request_id(request.request_id), reason, actor]
    if violations := [violation for violation in found if violation]:
        raise InvalidInput(violations)
    meaning = copy.deepcopy(request)
    meaning.request_id = ""
    fingerprint = hashlib.sha256(meaning.SerializeToString(deterministic=True)).digest()
    return RerateRequest(current_tenant(), request.request_id, fingerprint, request.reason, request.actor)


def _token(asked: pb.RerateRequest, page: ReratedPage) -> str:
    assert page.next_after is not None
    customer_id, subscription_id, start = page.next_after
    return next_page_token(asked, [customer_id, subscription_id, start.isoformat()])


def _page_to_pb(page: ReratedPage, cause: Cause | None, token: str) -> pb.RerateResponse:
    return pb.RerateResponse(
        period_count=page.period_count,
        charges=[rerated_to_pb(change, cause) for change in page.charges],
        problems=[problem_to_pb(*item) for item in page.problems],
        next_page_token=token,
    )
