"""An asynchronous iterator, read by a thread that has no event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

from steelyard.errors import ClientClosed

T = TypeVar("T")

_END: Any = object()


def blocking(items: AsyncGenerator[T, None], run: Callable[[Coroutine[Any, Any, Any]], Any]) -> Iterator[T]:
    """Yield the items; `run` runs a coroutine in the loop that they belong to and waits for it.

    However the loop over it is left, also by Ctrl-C in the middle of waiting, what is under way is ended.
    """
    reading: asyncio.Task[Any] | None = None

    async def read() -> Any:
        nonlocal reading
        reading = asyncio.current_task()
        return await anext(items, _END)

    async def stop() -> None:
        if reading is not None and not reading.done():
            reading.cancel()
            await asyncio.wait({reading})
        await items.aclose()

    try:
        while (item := run(read())) is not _END:
            yield item
    finally:
        with contextlib.suppress(ClientClosed):  # Closing has ended it already.
            run(stop())
