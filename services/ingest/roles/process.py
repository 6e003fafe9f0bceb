"""What the parts of an ingest process share."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from nats.aio.client import Client

from libs.directory import KnownClocks
from libs.messaging import Applier
from libs.rpc import Authenticator, GrpcServer
from services.ingest.config import Config

Parts = dict[str, Coroutine[object, object, None]]
"""What a role runs until the process stops, by the names that logs use."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process, whatever roles it plays; `appliers` are given to the reader of the directory before it runs."""

    config: Config
    instance: str
    nats: Client
    appliers: dict[str, list[Applier]]
    clocks: KnownClocks
    authenticator: Authenticator
    server: GrpcServer
    stopping: asyncio.Event
    stack: AsyncExitStack
    knows_directory: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when everything that was in the directory at the start is applied."""

    def follow(self, appliers: Mapping[str, Applier]) -> None:
        """Have entries of the directory, by their kind, given to the appliers."""
        for kind, applier in appliers.items():
            self.appliers.setdefault(kind, []).append(applier)
