"""Tenants' clocks: what time it is for a tenant."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.message import DecodeError

from libs.clock import Clock
from libs.messaging import UnreadableMessage
from steelyard.billing.v1 import directory_pb2


class KnownClocks:
    """Keeps the highest version of each test clock; tenants without one live in real time."""

    def __init__(self, real: Clock) -> None:
        self._real = real
        self._clocks: dict[str, tuple[int, datetime]] = {}

    def now(self, tenant_id: str) -> datetime:
        """Return the tenant's time."""
        known = self._clocks.get(tenant_id)
        return known[1] if known else self._real()

    def test_times(self) -> dict[str, datetime]:
        """Return the tenants on test clocks with their times."""
        return {tenant_id: at for tenant_id, (_, at) in self._clocks.items()}

    def apply(self, ids: tuple[str, ...], payload: bytes | None, _sequence: int) -> None:
        """Take in an entry of `directory.clock.>`; give it to DirectoryReader.on_entry.

        :raises UnreadableMessage: if it is no such entry
        """
        if payload is None:
            self._clocks.pop(ids[0], None)
            return
        try:
            entry = directory_pb2.ClockEntry.FromString(payload)
        except DecodeError as error:
            raise UnreadableMessage(f"no ClockEntry: {ids}") from error
        if not entry.HasField("test_time"):
            raise UnreadableMessage(f"a clock without time: {ids}")
        known = self._clocks.get(entry.tenant_id)
        if known is None or entry.version >= known[0]:
            self._clocks[entry.tenant_id] = (entry.version, entry.test_time.ToDatetime(UTC))
