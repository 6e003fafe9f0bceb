"""Checks of ids that come from outside; each returns the violation found, or None."""

from __future__ import annotations

import re

from libs.errors import Violation

_TENANT_ID = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
MAX_RESOURCE_ID = 64
_RESOURCE_ID = re.compile(rf"[A-Za-z0-9_.:@-]{{1,{MAX_RESOURCE_ID}}}", re.ASCII)
# The key of a row: uuid.UUID() would also take a megabyte of hyphens.
_UUID = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
# Control characters, line separators, lone surrogates (not encodable), and bidirectional controls (text that shows
# differently from what it is).
_FORBIDDEN_IN_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def check_tenant_id(value: str, field: str = "tenant_id") -> Violation | None:
    """A tenant id is a DNS label beginning with a letter: 1-63 of a-z, 0-9 and inner hyphens."""
    if _TENANT_ID.fullmatch(value):
        return None
    return _required(value, field) or Violation(
        field, "INVALID_TENANT_ID", "must be 1-63 of a-z, 0-9, '-', begin with a letter, not end with '-'"
    )


def check_resource_id(value: str, field: str) -> Violation | None:
    """An id that a client gives to a customer, subscription, meter or rate card: 1-64 of A-Z a-z 0-9 _ . : @ -"""
    if _RESOURCE_ID.fullmatch(value):
        return None
    return _required(value, field) or Violation(field, "INVALID_ID", "must be 1-64 of A-Z, a-z, 0-9 and _ . : @ -")


def check_request_id(value: str, field: str = "request_id") -> Violation | None:
    """The id of a mutation (AIP-155): a UUID that the caller has chosen, with or without hyphens."""
    if _UUID.fullmatch(value):
        return None
    if not value:
        return Violation(field, "REQUIRED", "must be a UUID chosen by the caller")
    return Violation(field, "INVALID_UUID", "must be a UUID")


def check_text(value: str, field: str, max_length: int) -> Violation | None:
    """Free text of 1 to `max_length` code points: no control characters, no blanks at its ends."""
    if not value:
        return _required(value, field)
    if len(value) > max_length:
        return Violation(field, "TOO_LONG", f"must be at most {max_length} characters, has {len(value)}")
    # isprintable() is far faster and implies the pattern, but also refuses harmless text (unassigned code points).
    if not value.isprintable() and _FORBIDDEN_IN_TEXT.search(value):
        return Violation(field, "CONTROL_CHARACTER", "must not contain control characters")
    if value[0].isspace() or value[-1].isspace():
        return Violation(field, "SURROUNDING_BLANK", "must not begin or end with a blank")
    return None


def _required(value: str, field: str) -> Violation | None:
    return None if value else Violation(field, "REQUIRED", "must not be empty")
