"""Which billing periods a request is about, and where a page of them begins."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from libs.errors import InvalidInput
from libs.ids import check_resource_id, check_text
from libs.rpc import current_tenant, page_cursor
from libs.rpc.paging import ListRequest
from services.rating.domain.billing_period import PeriodScope
from services.rating.rpc.require import CUSTOMER_ID_LENGTH_MAX
from services.rating.wire.times import period_from_pb
from steelyard.common.v1 import period_pb2

_MAX_CUSTOMERS = 1_000


class _Scoped(Protocol):
    priced_by: str

    @property
    def period(self) -> period_pb2.Period: ...
    @property
    def customer_ids(self) -> Sequence[str]: ...


def scope_of(message: _Scoped, *, has_period: bool, path: str = "") -> PeriodScope:
    """Return the billing periods of the calling tenant that a message names; `path` leads to its fields.

    :raises InvalidInput: naming the first thing that is wrong
    """
    if not has_period:
        raise InvalidInput.of(f"{path}period", "REQUIRED", "must be the time in which billing periods start")
    try:
        within = period_from_pb(message.period)
    except (ValueError, OverflowError) as error:
        raise InvalidInput.of(f"{path}period", "INVALID_PERIOD", str(error)) from error
    if message.priced_by and (violation := check_resource_id(message.priced_by, f"{path}priced_by")):
        raise InvalidInput([violation])
    if len(message.customer_ids) > _MAX_CUSTOMERS:
        raise InvalidInput.of(f"{path}customer_ids", "TOO_MANY", f"must be at most {_MAX_CUSTOMERS}")
    found = [
        check_text(text, f"{path}customer_ids[{index}]", CUSTOMER_ID_LENGTH_MAX)
        for index, text in enumerate(message.customer_ids)
    ]
    if violations := [violation for violation in found if violation]:
        raise InvalidInput(violations)
    return PeriodScope(current_tenant(), within, message.priced_by, list(message.customer_ids))


def place_of(request: ListRequest) -> tuple[str, str, datetime] | None:
    """Return the customer, subscription and start of the last billing period of the page before; None on the first.

    :raises InvalidInput: PAGE_TOKEN_INVALID
    """
    cursor = page_cursor(request, 3)
    if cursor is None:
        return None
    customer_id, subscription_id, start = cursor
    try:
        return customer_id, subscription_id, datetime.fromisoformat(start)
    except ValueError as error:
        raise InvalidInput.of("page_token", "PAGE_TOKEN_INVALID", "is not a token of this list") from error
