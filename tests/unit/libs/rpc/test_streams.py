"""How many streams there may be, and what ends them."""

from __future__ import annotations

import asyncio

import pytest

from libs.errors import ResourceExhausted, Unauthenticated, Unavailable
from libs.rpc import Streams, draining
from libs.rpc.streams import LONGEST_AGE_S, MAX_CONNECTION_GRACE_S


def good() -> None:
    """A key that nobody revokes."""


class Holder:
    """Holds a stream in a task of its own until it is released or cancelled."""

    def __init__(self, streams: Streams, tenant_id: str = "acme") -> None:
        self.draining: asyncio.Event | None = None
        self.release = asyncio.Event()
        self.task = asyncio.create_task(self._hold(streams, tenant_id))

    async def _hold(self, streams: Streams, tenant_id: str) -> None:
        async with streams.held(tenant_id, good):
            self.draining = draining()
            await self.release.wait()

    async def ends(self) -> None:
        self.release.set()
        await self.task


class TestNumber:
    async def test_is_bounded(self) -> None:
        streams = Streams(2, 2)
        held = [Holder(streams, "acme"), Holder(streams, "globex")]
        await asyncio.sleep(0)

        with pytest.raises(ResourceExhausted) as caught:
            await Holder(streams, "initech").ends()
        await held[0].ends()
        await Holder(streams, "initech").ends()
        await held[1].ends()

        assert caught.value.reason == "TOO_MANY_STREAMS"
        assert caught.value.retry_after_s is not None

    async def test_is_bounded_for_one_tenant_so_that_others_have_some(self) -> None:
        streams = Streams(10, 2)
        held = [Holder(streams), Holder(streams)]
        await asyncio.sleep(0)

        with pytest.raises(ResourceExhausted):
            await Holder(streams).ends()
        await Holder(streams, "globex").ends()
        for holder in held:
            await holder.ends()
        await Holder(streams).ends()


class TestDrain:
    async def test_asks_all_to_end_and_lets_none_in(self) -> None:
        streams = Streams(10, 10)
        held = [Holder(streams), Holder(streams)]
        await asyncio.sleep(0)
        before = [holder.draining is not None and holder.draining.is_set() for holder in held]
        streams.drain()
        after = [holder.draining is not None and holder.draining.is_set() for holder in held]

        with pytest.raises(Unavailable) as caught:
            await Holder(streams).ends()
        for holder in held:
            await holder.ends()

        assert (before, after) == ([False, False], [True, True])
        assert caught.value.reason == "STOPPING"

    async def test_comes_by_itself_with_age(self) -> None:
        holder = Holder(Streams(1, 1, age_s=0.01))
        await asyncio.sleep(0)
        assert holder.draining is not None

        await asyncio.wait_for(holder.draining.wait(), 10)
        await holder.ends()

    def test_of_age_comes_before_grpc_ends_the_connection(self) -> None:
        assert LONGEST_AGE_S + 30 <= MAX_CONNECTION_GRACE_S

    async def test_outside_a_stream_there_is_none(self) -> None:
        with pytest.raises(LookupError):
            draining()


class TestCheck:
    async def test_ends_the_stream_when_it_fails(self) -> None:
        revoked, cleaned_up = asyncio.Event(), asyncio.Event()

        def check() -> None:
            if revoked.is_set():
                raise Unauthenticated("the API key was revoked", reason="API_KEY_REVOKED")

        async def hold() -> None:
            async with Streams(1, 1, check_s=0.005).held("acme", check):
                revoked.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    cleaned_up.set()

        with pytest.raises(Unauthenticated) as caught:
            await asyncio.wait_for(hold(), 10)

        assert caught.value.reason == "API_KEY_REVOKED"
        assert cleaned_up.is_set()

    async def test_a_check_that_breaks_ends_it_as_well(self) -> None:
        def check() -> None:
            raise LookupError("broken")

        async def hold() -> None:
            async with Streams(1, 1, check_s=0.005).held("acme", check):
                await asyncio.Event().wait()

        with pytest.raises(LookupError):
            await asyncio.wait_for(hold(), 10)

    async def test_a_stream_that_is_cancelled_is_cancelled(self) -> None:
        holder = Holder(Streams(1, 1))
        await asyncio.sleep(0)
        holder.task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await holder.task
