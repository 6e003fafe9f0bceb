"""Idempotency of mutations: what a request id stands for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from libs.errors import InvalidInput, Violation
from libs.ids import check_request_id
from services.billing.usecases.ports import Work


@dataclass(frozen=True, slots=True)
class Request:
    """One mutation as a caller asked for it: the method, the caller's id, and a digest of all that it means."""

    method: str
    request_id: str
    fingerprint: bytes

    @classmethod
    def of(cls, method: str, request_id: str, *meaning: object) -> Request:
        """`meaning` holds every field of the request but its id; its repr must tell different requests apart."""
        return cls(method, request_id, hashlib.sha256(repr((method, meaning)).encode()).digest())

    async def claim(self, work: Work, result_id: str, now: datetime) -> str | None:
        """Return None if the work is to be done, else the result of the call that did it.

        :raises RequestIdReused: if the id came with another meaning before
        """
        return await work.requests.claim(self.method, self.request_id, self.fingerprint, result_id, now)


def require_valid(request_id: str, violations: Iterable[Violation] = ()) -> None:
    """:raises InvalidInput: naming every violation, and the request id if it is not a UUID"""
    found = [*filter(None, [check_request_id(request_id)]), *violations]
    if found:
        raise InvalidInput(found)
