"""API keys from the directory."""

from __future__ import annotations

import pytest

from libs.messaging import UnreadableMessage
from services.rating.messaging.keys import DirectoryKeys
from steelyard.billing.v1 import directory_pb2


def _entry(version: int, *, revoked: bool = False) -> bytes:
    entry = directory_pb2.ApiKeyEntry(key_id="k", tenant_id="acme", secret_hash=b"h", revoked=revoked, version=version)
    return entry.SerializeToString()


def test_the_highest_version_counts() -> None:
    keys = DirectoryKeys()

    for payload in (_entry(2, revoked=True), _entry(1)):
        keys.apply(("k",), payload, 1)
    known = keys.find("k")

    assert known is not None
    assert (known.tenant_id, known.secret_hash, known.revoked) == ("acme", b"h", True)
    assert keys.find("unknown") is None


def test_a_removed_key_is_gone() -> None:
    keys = DirectoryKeys()
    keys.apply(("k",), _entry(1), 1)
    keys.apply(("k",), None, 2)

    assert keys.find("k") is None


def test_an_unreadable_entry_is_refused() -> None:
    with pytest.raises(UnreadableMessage):
        DirectoryKeys().apply(("k",), b"\xff", 1)
