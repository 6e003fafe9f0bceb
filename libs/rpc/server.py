"""The gRPC server of a service: guarded methods, health, reflection, limits, and a stop that loses no call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import TypeVar, cast

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from libs.rpc.admission import Admission
from libs.rpc.auth import Audience, Authenticator
from libs.rpc.errors import IsUnavailable
from libs.rpc.handlers import Handler, HandlerGuard
from libs.rpc.streams import MAX_CONNECTION_GRACE_S, Streams

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
_HEALTH_WATCHES = 10_000
"""Every client holds a stream open that watches our health: these must not use up the calls."""
_MOST_STREAMS, _MOST_STREAMS_PER_TENANT = 1_000, 250
_LIVENESS = "liveness"
_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Of one connection. Far above what is admitted, which is refused with a reason and a time to come back; grpc would
    # only reset the call.
    ("grpc.max_concurrent_streams", 1_000),
    ("grpc.max_metadata_size", 8_192),
    ("grpc.absolute_max_metadata_size", 16_384),
    ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
    ("grpc.http2.max_ping_strikes", 2),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.max_connection_age_ms", 1_800_000),  # Makes clients look up the addresses again after a scale-up.
    ("grpc.max_connection_age_grace_ms", round(MAX_CONNECTION_GRACE_S * 1_000)),
    ("grpc.so_reuseport", 0),  # Two processes on one port would be a mistake, not a balance.
)

ServicerT = TypeVar("ServicerT")


def _never(_error: Exception) -> bool:
    return False


class GrpcServer:
    """Serves the methods of a table, each for its audience, and nothing that the table does not name.

    Made inside the running event loop. `methods` maps `package.Service/Method` to who may call it; `is_unavailable`
    tells which exceptions of handlers mean that a dependency is away. Calls are let in from the first
    `set_ready(True)` on, at most `max_concurrent_rpcs` at a time; `streams` counts those in which the server streams.
    Health and reflection need no credentials.
    """

    def __init__(
        self,
        listen: str,
        *,
        service: str,
        authenticator: Authenticator,
        methods: Mapping[str, Audience],
        reflection: bool = False,
        is_unavailable: IsUnavailable = _never,
        drain_s: float = 1.0,
        grace_s: float = 10.0,
        max_concurrent_rpcs: int = 200,
        streams: Streams | None = None,
    ) -> None:
        self._listen = listen
        self._methods = methods
        self._reflection = reflection
        self._drain_s = drain_s
        self._grace_s = grace_s
        self._admission = Admission(max_concurrent_rpcs)
        self._streams = streams or Streams(_MOST_STREAMS, _MOST_STREAMS_PER_TENANT)
        self._guard = HandlerGuard(
            authenticator, self._admission, self._streams, domain=f"{service}.steelyard", is_unavailable=is_unavailable
        )
        in_all = max_concurrent_rpcs + _MOST_STREAMS + _HEALTH_WATCHES
        self._server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=in_all)
        self._health = health.aio.HealthServicer()
        self._services: list[str] = []

    def add(self, servicer: ServicerT, add_to_server: Callable[[ServicerT, grpc.aio.Server], None]) -> None:
        """Serve a servicer, registered by its generated `add_...Servicer_to_server`.

        :raises ValueError: if the table lacks one of its methods, or names one that it does not have
        :raises TypeError: if one of its methods is not asynchronous
        """
        recorder = _Recorder()
        add_to_server(servicer, cast(grpc.aio.Server, recorder))
        for service, handlers in recorder.services.items():
            self._check_table(service, handlers)
            guarded = {
                name: self._guard.wrap(f"{service}/{name}", handler, self._methods[f"{service}/{name}"])
                for name, handler in handlers.items()
            }
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, guarded),))
            self._services.append(service)

    async def start(self) -> int:
        """Bind, start serving and return the port. Health says NOT_SERVING until `set_ready(True)`.

        :raises OSError: if the address cannot be bound
        """
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if self._reflection:
            names = [*self._services, health.SERVICE_NAME, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(names, self._server)
        try:
            port = self._server.add_insecure_port(self._listen)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self._listen}") from error
        await self.set_ready(False)
        await self._health.set(_LIVENESS, health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()
        return port

    async def set_ready(self, ready: bool) -> None:
        """Say by health whether calls should come here: for "" and each service; "liveness" does not follow."""
        if ready:
            self._admission.open()
        status = health_pb2.HealthCheckResponse
        for name in ("", *self._services):
            await self._health.set(name, status.SERVING if ready else status.NOT_SERVING)

    async def run(self, loaded: Coroutine[object, object, None], stopping: asyncio.Event) -> None:
        """Start, let calls in when `loaded` has returned, and drain when `stopping` is set, also if that comes first.

        :raises OSError: if the address cannot be bound
        """
        waits = [asyncio.ensure_future(loaded), asyncio.ensure_future(stopping.wait())]
        try:
            await self.start()
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not stopping.is_set():
                waits[0].result()
                await self.set_ready(True)
                await stopping.wait()
        finally:
            for wait in waits:
                wait.cancel()
            await self.stop()

    async def stop(self) -> None:
        """Tell clients to go elsewhere, serve on for `drain_s`, then give calls in flight `grace_s` to end.

        grpc answers calls that arrive during its own stop with CANCELLED, which clients do not retry; after the drain
        none arrive from clients that watch our health. Only then streams are asked to end: by then their clients know
        where else to open the next one.
        """
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(self._drain_s)
        self._streams.drain()
        await self._server.stop(self._grace_s)

    def _check_table(self, service: str, handlers: Mapping[str, Handler]) -> None:
        expected = {f"{service}/{name}" for name in handlers}
        named = {method for method in self._methods if method.startswith(f"{service}/")}
        if expected != named:
            missing, unknown = sorted(expected - named), sorted(named - expected)
            raise ValueError(f"the method table lacks {missing} and names {unknown}, which do not exist")


class _Recorder:
    """Stands in for the server in generated code, which registers the same handlers in two ways."""

    def __init__(self) -> None:
        self.services: dict[str, Mapping[str, Handler]] = {}

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Ignored: it hides the names of the methods."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        self.services[service] = handlers
