"""Idempotency of mutations: what a request id stands for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from libs.errors import InvalidInput, Violation
from libs.ids import check_request_id
from services.payments.usecases.ports import Work


@dataclass(frozen=True, slots=True)
class Request:
    """One mutation as a caller asked for it: the method, the caller's id, and a digest of all that it means."""

    method: str
    request_id: str
    fingerprint: bytes

    @classmethod
    def of(cls, method: str, request_id: str, *meaning: str) -> Request:
        """`meaning` holds every field of the request but its id."""
        return cls(method, request_id, hashlib.sha256(repr((method, meaning)).encode()).digest())

    async def claim(self, work: Work, tenant_id: str, result_id: str, now: datetime) -> str | None:
        """Return None if the work is to be done, else the result of the call that did it.

        :raises RequestIdReused: if the id came with another meaning before
        """
        return await work.requests.claim(tenant_id, self.method, self.request_id, self.fingerprint, result_id, now)


def require_valid(request_id: str, *violations: Violation | None) -> None:
    """:raises InvalidInput: naming the request id if it is not a UUID, and every violation"""
    found = [check_request_id(request_id), *violations]
    if faults := [violation for violation in found if violation]:
        raise InvalidInput(faults)
