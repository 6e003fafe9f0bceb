"""Connections to NATS with settings that survive restarts of the server."""

from __future__ import annotations

import logging

import nats
from nats.aio.client import Client
from nats.js import JetStreamContext

_logger = logging.getLogger(__name__)

_PING_INTERVAL_S = 5
_RECONNECT_WAIT_S = 0.25
_CONNECT_TIMEOUT_S = 2


async def connect(url: str, *, name: str) -> Client:
    """Connect to NATS; `url` may name several servers, separated by commas.

    Waits until a server answers and then reconnects for ever. While there is no connection, publishing raises
    `nats.errors.OutboundBufferLimitError` at once instead of buffering: publishers here retry by themselves, and a
    buffer would send again what they have sent already.
    """
    events = _ConnectionLog(name)
    return await nats.connect(
        servers=[server.strip() for server in url.split(",")],
        name=name,
        max_reconnect_attempts=-1,
        reconnect_time_wait=_RECONNECT_WAIT_S,
        connect_timeout=_CONNECT_TIMEOUT_S,
        ping_interval=_PING_INTERVAL_S,
        pending_size=-1,
        error_cb=events.error,
        disconnected_cb=events.disconnected,
        reconnected_cb=events.reconnected,
        closed_cb=events.closed,
    )


def connection_of(js: JetStreamContext) -> Client:
    """The connection under `js`; nats-py gives no public way from one to the other."""
    connection: Client = js._nc
    return connection


class _ConnectionLog:
    """Logs what happens to one connection; nats-py reports every failed attempt, four a second, so repeats are not."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._last = ""

    async def error(self, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        if text != self._last:
            _logger.warning("NATS connection %s: %s", self._name, text)
            self._last = text

    async def disconnected(self) -> None:
        _logger.warning("NATS connection %s is lost", self._name)

    async def reconnected(self) -> None:
        self._last = ""
        _logger.info("NATS connection %s is back", self._name)

    async def closed(self) -> None:
        _logger.info("NATS connection %s is closed", self._name)
