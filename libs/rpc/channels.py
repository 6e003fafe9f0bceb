"""Channels to peers: balanced over replicas that are well, retried, with deadline, credentials and trace context."""

from __future__ import annotations

import json
from collections.abc import Sequence

import grpc

from libs.rpc.auth import AUTHORIZATION, TENANT_HEADER
from libs.rpc.client_interceptors import CallPreparation, client_interceptors
from libs.rpc.deadlines import DEFAULT_TIMEOUT_S
from libs.rpc.server import MAX_MESSAGE_BYTES

# Never add methodConfig.timeout: grpcio shortens such deadlines by more than a second (grpc issue 34547). Our
# interceptors give each call its timeout. Retrying everything is right because each mutation has a request id.
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
_OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.service_config", _SERVICE_CONFIG),
    # Channels of a process otherwise share connections, and two that begin to watch the health of a shared one at the
    # same moment can end the process by SIGSEGV (grpcio 1.85; ADR 0032).
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 1),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # A peer that restarts is back within seconds; grpc's own backoff grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 3_000),
)


def channel(target: str, *, key: str | None = None, timeout_s: float = DEFAULT_TIMEOUT_S) -> grpc.aio.Channel:
    """Open a channel to `host:port` or `dns:///host:port` (all addresses of that name).

    `key` is sent as bearer credential. Each call takes at most `timeout_s` unless it gives a timeout of its own, and
    never more than what is left of the call being served.
    """
    preparation = CallPreparation(credentials=((AUTHORIZATION, f"Bearer {key}"),) if key else (), timeout_s=timeout_s)
    return grpc.aio.insecure_channel(target, _OPTIONS, interceptors=client_interceptors(preparation))


def internal_channel(target: str, internal_key: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> grpc.aio.Channel:
    """Open a channel to another service of this installation; name the tenant per call with `as_tenant`."""
    return channel(target, key=internal_key, timeout_s=timeout_s)


def as_tenant(tenant_id: str) -> Sequence[tuple[str, str]]:
    """Metadata of a call on behalf of a tenant: `stub.GetInvoice(request, metadata=as_tenant("acme"))`."""
    return ((TENANT_HEADER, tenant_id),)
