"""Customers: who uses and pays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from libs.errors import AlreadyExists, NotFound, Violation
from libs.ids import check_text
from libs.periods import UnknownZone, find_zone
from services.billing.domain.tenant import check_display_name

DEFAULT_TIME_ZONE = "UTC"
CUSTOMER_ID_LENGTH_MAX = 128


class CustomerNotFound(NotFound):
    reason = "CUSTOMER_NOT_FOUND"


class CustomerExists(AlreadyExists):
    reason = "CUSTOMER_EXISTS"


@dataclass(frozen=True, slots=True)
class Customer:
    """`time_zone` is the IANA zone of the customer's billing periods."""

    customer_id: str
    display_name: str
    time_zone: str
    created_at: datetime

    def violations(self) -> Iterator[Violation]:
        """What is wrong with it, by the field names of the API."""
        if violation := check_text(self.customer_id, "customer.customer_id", CUSTOMER_ID_LENGTH_MAX):
            yield violation
        if violation := check_display_name(self.display_name, "customer.display_name"):
            yield violation
        try:
            find_zone(self.time_zone, "customer.time_zone")
        except UnknownZone as error:
            yield from error.violations
