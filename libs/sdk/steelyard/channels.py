"""gRPC channels with credentials, deadlines, trace context and typed errors."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from opentelemetry import propagate

from steelyard.errors import error_from

# UNAVAILABLE is retried by gRPC itself, transparently and throttled. `timeout` must not stand in a service config: its
# deadlines are too short in grpcio 1.76 to 1.85 (grpc issue 34547).
_SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": ""},
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
    }
)

_OPTIONS = [
    ("grpc.service_config", _SERVICE_CONFIG),
    # Channels of a process otherwise share connections, and two that begin to watch the health of a shared one at the
    # same moment can end the process by SIGSEGV (grpcio 1.85; ADR 0032).
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.enable_http_proxy", 0),  # These are services of one installation, never something behind a web proxy.
    # A stream waits for ever on a connection that died silently.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # A service that restarts is back within seconds; grpc's own backoff grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 3_000),
]


def credentials_metadata(secret: str, tenant_id: str) -> tuple[tuple[str, str], ...]:
    """Who calls, and for whom: every unary call of `open_channel` has it already, streams are given it."""
    headers = (("authorization", f"Bearer {secret}" if secret else ""), ("x-steelyard-tenant", tenant_id))
    return tuple((name, value) for name, value in headers if value)


class _Caller(grpc.aio.UnaryUnaryClientInterceptor):
    """Adds what every call needs, and turns its failure into a SteelyardError."""

    def __init__(self, secret: str, tenant_id: str, timeout_s: float) -> None:
        self._secret, self._tenant_id, self._timeout_s = secret, tenant_id, timeout_s

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Awaitable[Any]],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        headers: dict[str, str] = {}
        propagate.inject(headers)
        credentials = credentials_metadata(self._secret, self._tenant_id)
        metadata = grpc.aio.Metadata(*(client_call_details.metadata or ()), *headers.items(), *credentials)
        details = grpc.aio.ClientCallDetails(
            method=client_call_details.method,
            timeout=client_call_details.timeout or self._timeout_s,
            metadata=metadata,
            credentials=client_call_details.credentials,
            wait_for_ready=client_call_details.wait_for_ready,
        )
        try:
            return await (await continuation(details, request))
        except grpc.aio.AioRpcError as error:
            raise error_from(error) from error


def open_channel(target: str, *, secret: str, tenant_id: str, timeout_s: float) -> grpc.aio.Channel:
    """Open a channel.

    :param secret: API key, sent as a bearer token
    :param tenant_id: for operators only, who act for a tenant; empty for tenant keys
    """
    return grpc.aio.insecure_channel(
        target,
        options=_OPTIONS,
        interceptors=[_Caller(secret, tenant_id, timeout_s)],
    )
