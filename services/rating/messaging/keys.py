"""The API keys of all tenants, from the directory, in memory."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from libs.messaging import UnreadableMessage
from libs.rpc import StoredKey
from steelyard.billing.v1 import directory_pb2

KIND = "key"
SUBJECT = "directory.key.>"


class DirectoryKeys:
    """Keeps the highest version of each key."""

    def __init__(self) -> None:
        self._keys: dict[str, tuple[int, StoredKey]] = {}

    def find(self, key_id: str) -> StoredKey | None:
        """Return a key; None if there is none."""
        known = self._keys.get(key_id)
        return known[1] if known else None

    def apply(self, ids: tuple[str, ...], payload: bytes | None, _sequence: int) -> None:
        """Take in an entry of the directory.

        :raises UnreadableMessage: if it is not an ApiKeyEntry
        """
        if payload is None:
            self._keys.pop(ids[0], None)
            return
        try:
            entry = directory_pb2.ApiKeyEntry.FromString(payload)
        except DecodeError as error:
            raise UnreadableMessage(f"not an ApiKeyEntry: {ids}") from error
        known = self._keys.get(entry.key_id)
        if known is None or entry.version >= known[0]:
            stored = StoredKey(entry.tenant_id, entry.secret_hash, revoked=entry.revoked)
            self._keys[entry.key_id] = (entry.version, stored)
