"""The proxy's own faults: what it is told to break is broken, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from tests.faults.driver.proxy import HEALTHY, Condition, Proxy


@pytest.fixture
async def link() -> AsyncIterator[tuple[Proxy, int]]:
    """A proxy with the link `echo` to a server that answers what it is told, and the link's port."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(1000):
                writer.write(chunk)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    with Proxy() as proxy:
        yield proxy, proxy.port("echo", server.sockets[0].getsockname()[1])
    server.close()


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def said(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: bytes) -> bytes:
    """Say something and return the answer."""
    writer.write(text)
    await writer.drain()
    return await asyncio.wait_for(reader.readexactly(len(text)), 5)


class TestProxy:
    async def test_passes_everything_on(self, link: tuple[Proxy, int]) -> None:
        _, port = link
        assert await said(*await connected(port), b"hello" * 100_000) == b"hello" * 100_000

    async def test_cuts_what_is_open_and_refuses_what_is_new(self, link: tuple[Proxy, int]) -> None:
        proxy, port = link
        ends = await connected(port)
        assert await said(*ends, b"hello") == b"hello"
        proxy.put("echo", Condition(cut=True))
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await said(*ends, b"hello")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await said(*await connected(port), b"hello")
        proxy.heal()
        assert await said(*await connected(port), b"hello") == b"hello"

    @pytest.mark.parametrize("condition", [Condition(to_server=False), Condition(to_client=False)], ids=["out", "back"])
    async def test_loses_bytes_of_one_direction_and_tells_nobody(
        self, link: tuple[Proxy, int], condition: Condition
    ) -> None:
        proxy, port = link
        reader, writer = await connected(port)
        assert await said(reader, writer, b"hello") == b"hello"
        proxy.put("echo", condition)
        writer.write(b"lost")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.3)
        proxy.put("echo", HEALTHY)
        # The connection has a hole now: it is reset instead of going on with it.
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await said(reader, writer, b"hello")

    async def test_is_late(self, link: tuple[Proxy, int]) -> None:
        proxy, port = link
        ends = await connected(port)
        proxy.put("echo", Condition(delay_s=0.1))
        began = time.monotonic()
        assert await said(*ends, b"hello") == b"hello"
        assert time.monotonic() - began >= 0.2  # Each way.

    async def test_is_thin(self, link: tuple[Proxy, int]) -> None:
        proxy, port = link
        ends = await connected(port)
        proxy.put("echo", Condition(bytes_per_s=10_000))
        began = time.monotonic()
        assert await said(*ends, b"x" * 2_000) == b"x" * 2_000
        assert time.monotonic() - began >= 0.4

    async def test_counts_connections(self, link: tuple[Proxy, int]) -> None:
        proxy, port = link
        await said(*await connected(port), b"a")
        await said(*await connected(port), b"b")
        assert proxy.connections("echo") == 2
        assert proxy.links == ["echo"]
