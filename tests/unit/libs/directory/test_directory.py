"""Directory entries in memory: the highest version wins, whatever order they come in."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from libs.directory import KnownClocks, KnownKeys
from libs.messaging import UnreadableMessage
from steelyard.billing.v1 import directory_pb2

REAL = datetime(2026, 3, 1, tzinfo=UTC)
JANUARY, FEBRUARY = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)


def clock_entry(at: datetime, version: int) -> bytes:
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return directory_pb2.ClockEntry(tenant_id="acme", test_time=stamp, version=version).SerializeToString()


class TestKnownClocks:
    def test_an_older_version_never_moves_a_clock_back(self) -> None:
        clocks = KnownClocks(lambda: REAL)
        clocks.apply(("acme",), clock_entry(FEBRUARY, 2), 7)
        clocks.apply(("acme",), clock_entry(JANUARY, 1), 8)
        assert clocks.now("acme") == FEBRUARY
        assert clocks.test_times() == {"acme": FEBRUARY}

    def test_a_tenant_without_test_clock_lives_in_real_time(self) -> None:
        clocks = KnownClocks(lambda: REAL)
        clocks.apply(("acme",), clock_entry(FEBRUARY, 1), 1)
        clocks.apply(("acme",), None, 2)
        assert clocks.now("acme") == clocks.now("other") == REAL

    @pytest.mark.parametrize("payload", [b"\xff\xff", directory_pb2.ClockEntry(tenant_id="acme").SerializeToString()])
    def test_refuses_what_is_no_clock(self, payload: bytes) -> None:
        with pytest.raises(UnreadableMessage):
            KnownClocks(lambda: REAL).apply(("acme",), payload, 1)


class TestKnownKeys:
    def test_a_revocation_is_not_undone_by_an_older_entry(self) -> None:
        keys = KnownKeys()
        for version, revoked in ((2, True), (1, False)):
            entry = directory_pb2.ApiKeyEntry(key_id="k1", tenant_id="acme", revoked=revoked, version=version)
            keys.apply(("k1",), entry.SerializeToString(), version)
        stored = keys.find("k1")
        assert stored is not None
        assert stored.revoked
        keys.apply(("k1",), None, 3)
        assert keys.find("k1") is None

    def test_refuses_what_is_no_key(self) -> None:
        with pytest.raises(UnreadableMessage):
            KnownKeys().apply(("k1",), b"\xff\xff", 1)
