"""A TCP proxy of our own, one listening port per link, with the faults that a network has.

It runs in a thread of its own, so that a blocked test does not stop the traffic. Every method may be called from any
thread and returns when the change is in force.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from libs.embedded.machine import free_port

_CHUNK = 64 * 1024
_CALL_TIMEOUT_S = 10
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Condition:
    """How a link is: `cut` refuses and resets; `to_server`, `to_client`: whether bytes pass in this direction (a link
    with one of them False is half open: nobody is told); every chunk is late by `delay_s`; `bytes_per_s` 0 is no limit.
    """

    cut: bool = False
    to_server: bool = True
    to_client: bool = True
    delay_s: float = 0.0
    bytes_per_s: int = 0

    @property
    def loses_bytes(self) -> bool:
        """Whether connections in this condition are of no use afterwards."""
        return self.cut or not (self.to_server and self.to_client)


HEALTHY = Condition()


@dataclass(eq=False)
class _Link:
    name: str
    host: str
    target_port: int
    port: int
    condition: Condition = HEALTHY
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    connections: int = 0


class Proxy:
    """Links by name (`rating->nats`); each forwards to 127.0.0.1 and one target port."""

    def __init__(self) -> None:
        self._links: dict[str, _Link] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def links(self) -> list[str]:
        """The names of all links."""
        return sorted(self._links)

    def port(self, name: str, target_port: int) -> int:
        """Return the port that leads to the target, opening the link if it is not there yet."""
        if name not in self._links:
            self._call(self._open(name, target_port))
        return self._links[name].port

    def put(self, name: str, condition: Condition) -> None:
        """Bring a link into a condition; connections that are open get into it, too.

        Those that lose bytes are reset when that ends: going on with a hole would be a fault that no network has.
        """
        self._call(self._change(name, condition))

    def heal(self) -> None:
        """Make all links healthy."""
        for name in self.links:
            self.put(name, HEALTHY)

    def connections(self, name: str) -> int:
        """How many connections the link has had so far."""
        return self._links[name].connections

    def _call(self, coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_CALL_TIMEOUT_S)

    async def _open(self, name: str, target_port: int) -> None:
        link = _Link(name, "127.0.0.1", target_port, free_port())

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(link, reader, writer)

        await asyncio.start_server(accept, "127.0.0.1", link.port)
        self._links[name] = link

    async def _change(self, name: str, condition: Condition) -> None:
        link = self._links[name]
        before, link.condition = link.condition, condition
        if condition.cut or (before.loses_bytes and condition != before):
            for writer in list(link.writers):
                writer.transport.abort()

    async def _close(self) -> None:
        for link in self._links.values():
            link.condition = Condition(cut=True)
            for writer in list(link.writers):
                writer.transport.abort()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if link.condition.cut:
            writer.transport.abort()
            return
        link.connections += 1
        try:
            server_reader, server_writer = await asyncio.open_connection(link.host, link.target_port)
        except OSError:
            writer.transport.abort()
            return
        link.writers |= {writer, server_writer}
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(reader, server_writer, link, lambda condition: condition.to_server))
                both.create_task(_pump(server_reader, writer, link, lambda condition: condition.to_client))
        except* OSError:
            pass  # One side is gone; the other is closed with it.
        finally:
            for end in (writer, server_writer):
                link.writers.discard(end)
                end.transport.abort()


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: _Link, open_: Callable[[Condition], bool]
) -> None:
    """Forward one direction until either side ends, then end the other."""
    while chunk := await reader.read(_CHUNK):
        condition = link.condition
        pause_s = condition.delay_s + (len(chunk) / condition.bytes_per_s if condition.bytes_per_s else 0)
        if pause_s:
            await asyncio.sleep(pause_s)
        if open_(link.condition):  # Otherwise the bytes are lost, and nobody is told.
            writer.write(chunk)
            await writer.drain()
    with contextlib.suppress(OSError):
        if writer.can_write_eof():
            writer.write_eof()
    raise ConnectionResetError  # Half-closed connections are of no use to anyone here.
