"""Copies the customers of the directory into PostgreSQL, where usage of unknown ones is told apart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from google.protobuf.message import DecodeError

from libs.database import is_outage
from libs.messaging import Applier, UnreadableMessage
from steelyard.billing.v1 import directory_pb2

_logger = logging.getLogger(__name__)

_CHUNK = 1_000
_AWAY_S = 1.0

CustomerRow = tuple[str, str, int]
"""Tenant, customer, version."""


class CustomerStore(Protocol):
    async def add(self, customers: Sequence[CustomerRow]) -> None:
        """Store those that are new, and commit."""


class CustomerSync:
    """Follows `directory.customer.>`. What is not yet written when the process dies is read again at the next start."""

    def __init__(self, store: CustomerStore) -> None:
        self._store = store
        self._waiting: list[CustomerRow] = []
        self._wake = asyncio.Event()

    def appliers(self) -> dict[str, Applier]:
        """What to give to the directory's reader, by kind of entry."""
        return {"customer": self._apply}

    async def run(self, stopping: asyncio.Event) -> None:
        """Write until `stopping` is set."""
        while not stopping.is_set():
            chunk = self._waiting[:_CHUNK]
            try:
                if chunk:
                    await self._store.add(chunk)
                    del self._waiting[: len(chunk)]
                    continue
                timeout_s = _AWAY_S
            except Exception as error:
                if not is_outage(error):
                    raise
                _logger.warning("customers wait for PostgreSQL: %r", error)
                timeout_s = _AWAY_S
                self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), timeout_s)
                self._wake.clear()
            except TimeoutError:
                continue

    def _apply(self, ids: tuple[str, ...], payload: bytes | None, _sequence: int) -> None:
        if payload is None:  # Usage that was assigned stays so.
            return
        try:
            entry = directory_pb2.CustomerEntry.FromString(payload)
        except DecodeError as error:
            raise UnreadableMessage(f"no CustomerEntry: {ids}") from error
        self._waiting.append((entry.tenant_id, entry.customer_id, entry.version))
        self._wake.set()
