from __future__ import annotations

import asyncio

import asyncpg
import nats.errors
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from libs.errors import Aborted, FailedPrecondition, InvalidInput, Unavailable
from libs.messaging import InboxConflict, PublishUnknown, UnreadableMessage, is_transient
from libs.messaging.failures import backoff_s, pause


def _wrapped(error: Exception, *, lost: bool = False) -> DBAPIError:
    return DBAPIError("SELECT 1", None, error, connection_invalidated=lost)


class TestIsTransient:
    @pytest.mark.parametrize(
        "error",
        [
            TimeoutError(),
            ConnectionRefusedError(),
            OSError("Multiple exceptions: [Errno 111] connect call failed"),
            Unavailable("away"),
            PublishUnknown("no acknowledgement"),
            Aborted("again"),
            nats.errors.TimeoutError(),
            nats.errors.OutboundBufferLimitError(),
            asyncpg.ConnectionDoesNotExistError(),
            asyncpg.CannotConnectNowError(),
            asyncpg.AdminShutdownError(),
            asyncpg.TooManyConnectionsError(),
            asyncpg.SerializationError(),
            asyncpg.DeadlockDetectedError(),
            asyncpg.ReadOnlySQLTransactionError(),
            asyncpg.LockNotAvailableError(),
            asyncpg.InterfaceError("cannot perform operation: connection is closed"),
            _wrapped(asyncpg.DeadlockDetectedError()),
            _wrapped(ValueError(), lost=True),
            sa.exc.TimeoutError("QueuePool limit reached"),
        ],
        ids=repr,
    )
    def test_what_passes_by_itself(self, error: Exception) -> None:
        assert is_transient(error)

    @pytest.mark.parametrize(
        "error",
        [
            ValueError(),
            UnreadableMessage("not a charge"),
            InboxConflict("charges", {("acme", "e1")}),
            InvalidInput.of("amount", "TOO_LONG", "has too many digits"),
            FailedPrecondition("closed"),
            nats.errors.MaxPayloadError(),
            asyncpg.UniqueViolationError(),
            asyncpg.UndefinedTableError(),
            _wrapped(asyncpg.CheckViolationError()),
        ],
        ids=repr,
    )
    def test_what_does_not(self, error: Exception) -> None:
        assert not is_transient(error)


class TestBackoff:
    def test_doubles_up_to_the_most(self) -> None:
        waits = [backoff_s(attempt, first_s=0.5, most_s=3.0, jitter=lambda: 1.0) for attempt in (1, 2, 3, 4, 1_000_000)]
        assert waits == [0.5, 1.0, 2.0, 3.0, 3.0]

    def test_jitter_takes_off_up_to_half(self) -> None:
        assert backoff_s(2, first_s=0.5, most_s=3.0, jitter=lambda: 0.0) == 0.5


class TestPause:
    async def test_ends_when_stopping(self) -> None:
        stopping = asyncio.Event()
        asyncio.get_running_loop().call_later(0.01, stopping.set)
        async with asyncio.timeout(5):
            await pause(stopping, 60)

    async def test_ends_after_its_time(self) -> None:
        stopping = asyncio.Event()
        await pause(stopping, 0.01)
        assert not stopping.is_set()
