"""Names from OpenTelemetry's semantic conventions 1.44 that this system emits, in one place because they still move.

Source: https://opentelemetry.io/docs/specs/semconv/ (RPC is a release candidate, messaging in development).
"""

from __future__ import annotations

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"

SERVICE_NAMESPACE = "service.namespace"
SERVICE_NAME = "service.name"
SERVICE_INSTANCE_ID = "service.instance.id"

ERROR_TYPE = "error.type"

RPC_SYSTEM_NAME = "rpc.system.name"
RPC_METHOD = "rpc.method"
"""Fully qualified and without a leading slash: `steelyard.ingest.v1.IngestService/IngestEvents`."""
RPC_RESPONSE_STATUS_CODE = "rpc.response.status_code"
RPC_SERVER_CALL_DURATION = "rpc.server.call.duration"
RPC_CLIENT_CALL_DURATION = "rpc.client.call.duration"

MESSAGING_SYSTEM = "messaging.system"
MESSAGING_OPERATION_NAME = "messaging.operation.name"
MESSAGING_OPERATION_TYPE = "messaging.operation.type"
MESSAGING_DESTINATION_NAME = "messaging.destination.name"
MESSAGING_DESTINATION_TEMPLATE = "messaging.destination.template"
"""The subject with its ids replaced: `usage.{tenant}`."""
MESSAGING_DESTINATION_SUBSCRIPTION_NAME = "messaging.destination.subscription.name"
MESSAGING_MESSAGE_ID = "messaging.message.id"
MESSAGING_BATCH_MESSAGE_COUNT = "messaging.batch.message_count"
MESSAGING_CLIENT_SENT_MESSAGES = "messaging.client.sent.messages"
MESSAGING_CLIENT_CONSUMED_MESSAGES = "messaging.client.consumed.messages"
MESSAGING_CLIENT_OPERATION_DURATION = "messaging.client.operation.duration"
MESSAGING_PROCESS_DURATION = "messaging.process.duration"

TENANT_ID = "steelyard.tenant_id"
