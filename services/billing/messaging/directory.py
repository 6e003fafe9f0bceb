"""Keeps the directory current: tenants, keys, clocks and customers, the last value of each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import nats.errors
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from nats.aio.client import Client

from libs.clock import Clock
from libs.database import is_outage
from libs.errors import Unavailable
from libs.messaging import DIRECTORY, DirectoryNotConfirmed, DirectoryPublisher, confirm_applied, directory_subject
from libs.messaging.failures import pause
from services.billing.usecases.ports import DirectoryEntries, DirectoryEntry, EntryKind
from steelyard.billing.v1 import directory_pb2

CONFIRMING_SERVICES = frozenset({"ingest", "rating", "billing", "payments"})
_LEFT_BEHIND = timedelta(seconds=2)
_RELAY_EVERY_S = 1.0
_TENANTS_AT_ONCE = 50

_logger = logging.getLogger(__name__)


class StreamDirectory:
    """Publishes marked entries: at once for the request that made them, and later for one that could not any more.

    The marks stay locked while their entries are published. A newer value, whose transaction touches the same mark,
    therefore waits for the older one to be in the stream: the last value of a subject is never an old one.
    """

    def __init__(
        self,
        *,
        entries: DirectoryEntries,
        publisher: DirectoryPublisher,
        connection: Client,
        clock: Clock,
        confirming: frozenset[str] = CONFIRMING_SERVICES,
        confirm_timeout_s: float = 8.0,
    ) -> None:
        self._entries = entries
        self._publisher = publisher
        self._connection = connection
        self._clock = clock
        self._confirming = confirming
        self._confirm_timeout_s = confirm_timeout_s

    async def publish(self, tenant_id: str) -> None:
        """Return when everything that was marked for the tenant is stored in the stream.

        :raises Unavailable: if that is not known; it will be published later
        """
        found = True
        while found:
            async with self._entries.locked(tenant_id) as entries:
                await asyncio.gather(*map(self._put, entries))
                found = bool(entries)

    async def unconfirmed(self) -> list[str]:
        """Wait until all services have applied what is in the stream now; return who has not said so in time."""
        try:
            info = await self._connection.jetstream().stream_info(DIRECTORY.name)
            await confirm_applied(
                self._connection,
                info.state.last_seq,
                expect_services=set(self._confirming),
                timeout_s=self._confirm_timeout_s,
            )
        except DirectoryNotConfirmed as error:
            return sorted({*error.services, *error.instances})
        except (nats.errors.Error, TimeoutError) as error:
            _logger.warning("nobody can be asked whether the directory is applied: %r", error)
            return sorted(self._confirming)
        return []

    async def run(self, stopping: asyncio.Event) -> None:
        """Publish what was left behind, until stopped; first everything, if the stream has lost it."""
        checked = False
        while not stopping.is_set():
            try:
                checked = checked or await self._mark_all_if_lost()
                for tenant_id in await self._entries.left_behind(self._clock() - _LEFT_BEHIND, _TENANTS_AT_ONCE):
                    await self.publish(tenant_id)
            except Exception as error:
                if not isinstance(error, (Unavailable, nats.errors.Error)) and not is_outage(error):
                    raise
                _logger.warning("directory entries wait: %r", error)
            await pause(stopping, _RELAY_EVERY_S)

    async def _put(self, entry: DirectoryEntry) -> None:
        # The time makes the id new: after the stream was lost, an entry is stored again although its version is the
        # same, and nobody is answered "duplicate" by a window that remembers what the stream has not.
        version = entry.values["version"]
        msg_id = f"{entry.tenant_id}:{entry.kind}:{entry.entry_id}:{version}:{self._clock().isoformat()}"
        payload = _MESSAGES[entry.kind](entry.values).SerializeToString()
        await self._publisher.put(_subject(entry), payload, msg_id)

    async def _mark_all_if_lost(self) -> bool:
        """Tenants in the database but none in the stream: somebody has recreated it."""
        js = self._connection.jetstream()
        info = await js.stream_info(DIRECTORY.name, subjects_filter=f"directory.{EntryKind.TENANT}.>")
        if not info.state.subjects and (tenants := await self._entries.mark_all(self._clock() - _LEFT_BEHIND)):
            _logger.warning("the directory is empty: all entries of %d tenants are published again", tenants)
        return True


def _subject(entry: DirectoryEntry) -> str:
    if entry.kind is EntryKind.KEY:
        return directory_subject(entry.kind, entry.entry_id)
    if entry.kind is EntryKind.CUSTOMER:
        return directory_subject(entry.kind, entry.tenant_id, entry.entry_id)
    return directory_subject(entry.kind, entry.tenant_id)


def _clock_message(values: Mapping[str, Any]) -> Message:
    stamp = Timestamp()
    stamp.FromDatetime(values["test_time"])
    return directory_pb2.ClockEntry(tenant_id=values["tenant_id"], test_time=stamp, version=values["version"])


_MESSAGES: dict[EntryKind, Callable[[Mapping[str, Any]], Message]] = {
    EntryKind.TENANT: lambda values: directory_pb2.TenantEntry(**values),
    EntryKind.KEY: lambda values: directory_pb2.ApiKeyEntry(**values),
    EntryKind.CLOCK: _clock_message,
    EntryKind.CUSTOMER: lambda values: directory_pb2.CustomerEntry(**values),
}
