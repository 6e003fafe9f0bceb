"""API keys, for authentication without a database."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from libs.messaging import UnreadableMessage
from libs.rpc import StoredKey
from steelyard.billing.v1 import directory_pb2


class KnownKeys:
    """Keeps the highest version of each key; see libs.rpc.KeyDirectory."""

    def __init__(self) -> None:
        self._keys: dict[str, tuple[int, StoredKey]] = {}

    def find(self, key_id: str) -> StoredKey | None:
        """Return the key, also when it is revoked."""
        known = self._keys.get(key_id)
        return known[1] if known else None

    def apply(self, ids: tuple[str, ...], payload: bytes | None, _sequence: int) -> None:
        """Take in an entry of `directory.key.>`; give it to DirectoryReader.on_entry.

        :raises UnreadableMessage: if it is no such entry
        """
        if payload is None:
            self._keys.pop(ids[0], None)
            return
        try:
            entry = directory_pb2.ApiKeyEntry.FromString(payload)
        except DecodeError as error:
            raise UnreadableMessage(f"no ApiKeyEntry: {ids}") from error
        known = self._keys.get(entry.key_id)
        if known is None or entry.version >= known[0]:
            stored = StoredKey(tenant_id=entry.tenant_id, secret_hash=entry.secret_hash, revoked=entry.revoked)
            self._keys[entry.key_id] = (entry.version, stored)
