"""The blocking client never leaves a thread waiting for an event loop that is not there."""

from __future__ import annotations

import asyncio
import os
import threading

import grpc
import pytest

from steelyard import ClientClosed, Endpoints, EventProblem, Options, SteelyardError, SyncClient, UsageEvent
from tests.component.libs.sdk.fake_ingest import FakeIngest, serve

QUICK = Options(linger_s=0.01, backoff_s=0.01, delivery_timeout_s=5)


def close_while_another_thread_sends(target: str, fake: FakeIngest) -> BaseException | None:
    """What a thread hears whose call is being retried when the client is closed."""
    client = SyncClient(api_key="sy_key", endpoints=Endpoints(ingest=target), options=QUICK)
    heard: list[BaseException] = []

    def send() -> None:
        try:
            client.send([UsageEvent("call", "c1")])
        except BaseException as error:
            heard.append(error)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    while not fake.metadata:
        pass
    client.close()
    sender.join(10)
    assert not sender.is_alive()
    return heard[0] if heard else None


class TestClosing:
    async def test_ends_the_calls_of_other_threads(self) -> None:
        fake = FakeIngest(failures=[(grpc.StatusCode.UNAVAILABLE, False)] * 10_000)
        async with serve(fake) as target:
            heard = await asyncio.to_thread(close_while_another_thread_sends, target, fake)
        assert isinstance(heard, ClientClosed)

    async def test_is_final(self) -> None:
        async with serve(FakeIngest()) as target:
            client = SyncClient(api_key="sy_key", endpoints=Endpoints(ingest=target), options=QUICK)
            await asyncio.to_thread(client.record, "call", "c1")
            await asyncio.to_thread(client.close)
            await asyncio.to_thread(client.close)
            with pytest.raises(ClientClosed):
                client.record("call", "c1")


class TestCallsThatCouldOnlyHang:
    async def test_from_the_clients_own_thread(self) -> None:
        heard: list[str] = []

        def record_again(problem: EventProblem) -> None:
            try:
                client.record("call", problem.event_id)
            except SteelyardError as error:
                heard.append(str(error))

        async with serve(FakeIngest()) as target:
            endpoints = Endpoints(ingest=target)
            client = SyncClient(api_key="sy_key", endpoints=endpoints, options=QUICK, on_problem=record_again)
            await asyncio.to_thread(client.record, "call", "bad-1")
            await asyncio.wait_for(asyncio.to_thread(client.close), 20)
        assert heard == ["on_problem must not call the client that calls it"]

    async def test_in_a_forked_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with serve(FakeIngest()) as target:
            client = SyncClient(api_key="sy_key", endpoints=Endpoints(ingest=target), options=QUICK)
            with monkeypatch.context() as child:
                child.setattr(os, "getpid", lambda: -1)
                with pytest.raises(SteelyardError, match="fork"):
                    client.record("call", "c1")
            await asyncio.to_thread(client.close)
