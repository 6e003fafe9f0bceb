"""Calls of the spool: blocking, because asyncio's gRPC does not survive a fork, neither in the child nor the parent."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import grpc

from steelyard.errors import SteelyardError, Unavailable, error_from
from steelyard.ingest.v1 import ingest_service_pb2, usage_service_pb2
from steelyard.settings import Endpoints

# No retries here: the spool itself tries again, and says so. Otherwise like the channels of Client.
_SERVICE_CONFIG = json.dumps(
    {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}, "methodConfig": []}
)
_OPTIONS = [
    ("grpc.service_config", _SERVICE_CONFIG),
    # Channels of a process otherwise share connections, and two that begin to watch the health of a shared one at the
    # same moment can end the process by SIGSEGV (grpcio 1.85; ADR 0032).
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 3_000),
]
_SEND = "/steelyard.ingest.v1.IngestService/IngestEvents"
_ASK = "/steelyard.ingest.v1.UsageService/GetBatchStatuses"
_ACK_QUEUED = ingest_service_pb2.IngestEventsRequest(ack_level=ingest_service_pb2.ACK_LEVEL_QUEUED).SerializeToString()
_PATIENCE_S = 2.0

# Channels that a child inherited in use. Closing or collecting them there could touch what is the parent's.
_inherited: list[object] = []

T = TypeVar("T")


class Silenced(Unavailable):
    """The call was not made, or cut short, because this process forks or the spool is closed."""


class Transport:
    """Sends batches and asks about receipts, one call at a time.

    :raises SteelyardError: if the key can be in no call
    """

    def __init__(self, endpoints: Endpoints, api_key: str, tenant_id: str, timeout_s: float) -> None:
        if not (api_key.isascii() and api_key.isprintable()):
            raise SteelyardError("api_key holds characters that no header can hold; a line end, perhaps")
        self._endpoints, self._timeout_s = endpoints, timeout_s
        self._stopped = False
        tenant = [("x-steelyard-tenant", tenant_id)] if tenant_id else []
        self._metadata = [("authorization", f"Bearer {api_key}"), *tenant]
        self._reset()

    def _reset(self) -> None:
        self._calling = threading.Lock()
        self._quiet, self._held = self._stopped, False
        self._channels: dict[str, grpc.Channel] = {}

    def send(self, events: bytes, trace_parent: str) -> ingest_service_pb2.IngestEventsResponse:
        """Send a serialised IngestEventsRequest that lacks nothing but its ack level.

        :raises SteelyardError: if it was not answered, or refused
        """
        trace = [("traceparent", trace_parent)] if trace_parent else []
        deserialize = ingest_service_pb2.IngestEventsResponse.FromString
        return self._call(self._endpoints.ingest, _SEND, events + _ACK_QUEUED, deserialize, trace)

    def statuses(self, receipts: Sequence[tuple[str, int]]) -> Sequence[usage_service_pb2.BatchStatus]:
        """Ask how far batches have come; the answer is in their order.

        :raises SteelyardError: if that was not answered, or refused
        """
        request = usage_service_pb2.GetBatchStatusesRequest(
            receipts=[
                ingest_service_pb2.BatchReceipt(acceptor_epoch=epoch, batch_number=number) for epoch, number in receipts
            ]
        )
        deserialize = usage_service_pb2.GetBatchStatusesResponse.FromString
        return self._call(self._endpoints.query, _ASK, request.SerializeToString(), deserialize, []).statuses

    def stop(self) -> None:
        """Make no more calls; one that is under way fails. What it carried is sent again by whoever is next."""
        self._stopped = True
        self._silence()
        if self._held:
            self._calling.release()

    def before_fork(self) -> None:
        """Be out of gRPC when the process forks."""
        self._silence()

    def after_fork_in_parent(self) -> None:
        if self._held:
            self._calling.release()
        self._quiet = self._stopped

    def after_fork_in_child(self) -> None:
        _inherited.append(self._channels)
        self._reset()

    def _silence(self) -> None:
        """Cancel what is under way and wait until it has ended, with the lock held then; no longer than patience."""
        self._quiet = True
        ends_at = time.monotonic() + _PATIENCE_S
        while True:
            channels, self._channels = self._channels, {}
            for channel in list(channels.values()):
                channel.close()
            self._held = self._calling.acquire(timeout=0.05)
            if self._held or time.monotonic() >= ends_at:
                return  # Otherwise a call has just begun, on a channel of its own.

    def _call(
        self,
        target: str,
        method: str,
        request: bytes,
        deserialize: Callable[[bytes], T],
        metadata: Sequence[tuple[str, str]],
    ) -> T:
        with self._calling:
            if self._quiet:
                raise Silenced("no calls are made at this moment")
            channel = self._channels.get(target)
            if channel is None:
                self._channels[target] = channel = grpc.insecure_channel(target, options=_OPTIONS)
            try:
                call: grpc.UnaryUnaryMultiCallable[bytes, T]
                call = channel.unary_unary(method, response_deserializer=deserialize)
                return call(request, timeout=self._timeout_s, metadata=(*self._metadata, *metadata))
            except grpc.RpcError as error:
                if self._quiet:
                    raise Silenced("the call was cut short") from error
                # Blocking calls fail with another class than asyncio's, which has all that is read of it.
                raise error_from(cast(Any, error)) from error
            except ValueError as error:
                if self._quiet:  # The channel was closed at this moment.
                    raise Silenced("the call was cut short") from error
                raise SteelyardError(f"the call cannot be made: {error}") from error
