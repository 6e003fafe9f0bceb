"""Checks of the fields of questions; mutations check theirs in their use case, together with the request id."""

from __future__ import annotations

from libs.errors import InvalidInput, Violation
from libs.ids import check_resource_id, check_text
from services.billing.domain.customer import CUSTOMER_ID_LENGTH_MAX


def customer_id(value: str, *, optional: bool = False) -> str:
    """:raises InvalidInput: naming the field"""
    return _checked(value, check_text(value, "customer_id", CUSTOMER_ID_LENGTH_MAX), optional=optional)


def subscription_id(value: str, *, optional: bool = False) -> str:
    """:raises InvalidInput: naming the field"""
    return _checked(value, check_resource_id(value, "subscription_id"), optional=optional)


def _checked(value: str, violation: Violation | None, *, optional: bool) -> str:
    if violation and (value or not optional):
        raise InvalidInput([violation])
    return value
