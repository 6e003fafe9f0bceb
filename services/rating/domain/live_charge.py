"""Charges while they change, and who watches which of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

MAX_MESSAGE_CHARGES = 500
MAX_MESSAGE_BYTES = 1 << 20


class ChargeKey(NamedTuple):
    """Names a charge of a tenant."""

    subscription_id: str
    period_start: datetime
    price_id: str


@dataclass(frozen=True, slots=True)
class LiveCharge:
    """A charge at one version; `content` is the whole charge as it is published."""

    key: ChargeKey
    customer_id: str
    period_end: datetime
    version: int
    content: bytes


@dataclass(frozen=True, slots=True)
class ChargeWatch:
    """Which charges of a tenant are watched: of these customers, or of these subscriptions, or all if neither is named.

    Of them those of billing periods that end after an instant, and start before another one (None: any).
    """

    tenant_id: str
    customer_ids: frozenset[str]
    subscription_ids: frozenset[str]
    ending_after: datetime
    starting_before: datetime | None = None

    def has(self, charge: LiveCharge) -> bool:
        """Whether a charge of the tenant is watched."""
        if self.customer_ids:
            named = charge.customer_id in self.customer_ids
        else:
            named = not self.subscription_ids or charge.key.subscription_id in self.subscription_ids
        begins = self.starting_before is None or charge.key.period_start < self.starting_before
        return named and begins and charge.period_end > self.ending_after


def in_messages(charges: Iterable[LiveCharge]) -> Iterator[list[LiveCharge]]:
    """Cut charges into what goes out in one message; a charge that is larger than that goes alone."""
    message: list[LiveCharge] = []
    size_bytes = 0
    for charge in charges:
        if message and (len(message) == MAX_MESSAGE_CHARGES or size_bytes + len(charge.content) > MAX_MESSAGE_BYTES):
            yield message
            message, size_bytes = [], 0
        message.append(charge)
        size_bytes += len(charge.content)
    if message:
        yield message
