"""gRPC for the services: a guarded server, channels to peers, errors, deadlines, principals and pages."""

from libs.rpc.api_keys import NewApiKey, hash_api_key, new_api_key, parse_api_key
from libs.rpc.auth import (
    Audience,
    Authenticator,
    KeyDirectory,
    Principal,
    StoredKey,
    current_principal,
    current_tenant,
    set_current_principal,
)
from libs.rpc.channels import as_tenant, channel, internal_channel
from libs.rpc.deadlines import remaining_s
from libs.rpc.errors import IsUnavailable, duration_to_pb, service_error_from, typed_errors
from libs.rpc.paging import ListRequest, fitting, next_page_token, page_cursor, page_size
from libs.rpc.server import GrpcServer
from libs.rpc.streams import Streams, draining

__all__ = [
    "Audience",
    "Authenticator",
    "GrpcServer",
    "IsUnavailable",
    "KeyDirectory",
    "ListRequest",
    "NewApiKey",
    "Principal",
    "StoredKey",
    "Streams",
    "as_tenant",
    "channel",
    "current_principal",
    "current_tenant",
    "draining",
    "duration_to_pb",
    "fitting",
    "hash_api_key",
    "internal_channel",
    "new_api_key",
    "next_page_token",
    "page_cursor",
    "page_size",
    "parse_api_key",
    "remaining_s",
    "service_error_from",
    "set_current_principal",
    "typed_errors",
]
