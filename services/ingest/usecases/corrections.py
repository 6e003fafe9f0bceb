"""What corrections need of the outside."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from libs.errors import InvalidInput
from libs.ids import check_request_id
from services.ingest.domain.correction import (
    Correction,
    CorrectionResult,
    KnownEvents,
    key_violations,
    words_violations,
)
from services.ingest.domain.event_key import EventKey
from services.ingest.domain.meter import Meter
from services.ingest.domain.usage_windows import WindowChange
from services.ingest.usecases.ports import RecordingStore


@dataclass(frozen=True, slots=True)
class CorrectionRequest:
    """What all corrections of a call have in common; `fingerprint` is a digest of the request without its id."""

    tenant_id: str
    method: str
    request_id: str
    fingerprint: bytes
    reason: str
    actor: str
    api_key_id: str

    def check(self, keys: Sequence[EventKey], field: str) -> None:
        """
        :param field: where the caller named the events, with `{}` for the index
        :raises InvalidInput: naming what is wrong
        """
        found = [*filter(None, [check_request_id(self.request_id)]), *words_violations(self.reason, self.actor)]
        found += key_violations(keys, field)
        if found:
            raise InvalidInput(found)


class CorrectionStore(Protocol):
    """Corrections of one tenant in one transaction. Each statement is set-wise."""

    @property
    def recording(self) -> RecordingStore:
        """The recorder's statements in the same transaction."""

    async def begin(
        self, request: CorrectionRequest, correction_id: str, now: datetime
    ) -> list[CorrectionResult] | None:
        """Claim the request and wait for other corrections of the tenant; return what a call before was told, if any.

        :raises RequestIdReused: if the id came with another request before
        """

    async def was_answered(self, request: CorrectionRequest) -> bool:
        """Whether a call before has carried the request out.

        :raises RequestIdReused: if the id came with another request before
        """

    async def wait_for_others(self) -> None:
        """Wait for other corrections of the tenant; there are none until the commit."""

    async def hold_recorders(self) -> None:
        """Wait until no event of the tenant is being recorded, and keep it so until the commit."""

    async def known(self, keys: Collection[EventKey]) -> KnownEvents:
        """Return what is committed about each id."""

    async def add(
        self, correction_id: str, corrections: Mapping[EventKey, Correction], waiting: Collection[EventKey]
    ) -> None:
        """Add corrections, in order; `waiting` are those whose event is not recorded."""

    async def recompute_windows(
        self, meters: Sequence[Meter], corrected: Collection[EventKey], added: Sequence[WindowChange], now: datetime
    ) -> None:
        """Lock the windows of corrected and of newly recorded events, make them what effective events come to, and mark
        them for publication."""

    async def answer(self, correction_id: str, results: Sequence[CorrectionResult]) -> None:
        """Keep what the caller is told."""


class CorrectionTransactions(Protocol):
    """Opens the transaction of a call; it commits at exit."""

    def __call__(self, tenant_id: str) -> AbstractAsyncContextManager[CorrectionStore]: ...


@dataclass(frozen=True, slots=True)
class ListedCorrection:
    """A correction with its event; `waiting` as long as that is not recorded, `position` in the order of making."""

    key: EventKey
    correction: Correction
    waiting: bool
    position: int


class CorrectionList(Protocol):
    async def list(
        self, tenant_id: str, before: int | None, limit: int, *, waiting_only: bool
    ) -> list[ListedCorrection]:
        """Return corrections, newest first, those before a position."""
