"""Payment methods: a gateway's token, and never anything that could be a card number."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from libs.errors import Violation

_MAX_TOKEN = 255
_DIGIT_RUN = re.compile(r"(?:\d[ -]?){12,18}\d")


@dataclass(frozen=True, slots=True)
class PaymentMethod:
    """What a customer's invoices are collected with."""

    tenant_id: str
    payment_method_id: str
    customer_id: str
    gateway_token: str
    created_at: datetime


def check_token(token: str, field: str) -> Iterator[Violation]:
    """Yield what is wrong with a token.

    A run of 13 to 19 digits that passes the Luhn check (ISO/IEC 7812) is taken for a card number and refused, so that
    none is ever stored or logged here.
    """
    if not token:
        yield Violation(field, "REQUIRED", "must be the gateway's token")
    elif len(token) > _MAX_TOKEN:
        yield Violation(field, "TOO_LONG", f"must have at most {_MAX_TOKEN} characters")
    elif not token.isprintable():
        yield Violation(field, "NOT_PRINTABLE", "must have printable characters only")
    if any(_luhn(re.sub(r"\D", "", run.group())) for run in _DIGIT_RUN.finditer(token)):
        yield Violation(field, "CARD_NUMBER_REFUSED", "looks like a card number; send the gateway's token instead")


def _luhn(digits: str) -> bool:
    doubled = [int(digit) * (2 if index % 2 else 1) for index, digit in enumerate(reversed(digits))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0
