"""Ids: made here (UUIDv7) and checked when a client makes them."""

from libs.ids.checks import check_request_id, check_resource_id, check_tenant_id, check_text
from libs.ids.uuid7_source import Uuid7Source, new_id, uuid7

__all__ = ["Uuid7Source", "check_request_id", "check_resource_id", "check_tenant_id", "check_text", "new_id", "uuid7"]
