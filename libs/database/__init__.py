"""PostgreSQL for services: engine and transactions under row-level security, migrations, request ids."""

from libs.database.database import Database, raw
from libs.database.migrations import SchemaBehindError, check_head, migrate, run_environment
from libs.database.requests import RequestLog, requests_table
from libs.database.retry import is_outage, retry_transient, sqlstate
from libs.database.tenancy import append_only, queue_access, row_security

__all__ = [
    "Database",
    "RequestLog",
    "SchemaBehindError",
    "append_only",
    "check_head",
    "is_outage",
    "migrate",
    "queue_access",
    "raw",
    "requests_table",
    "retry_transient",
    "row_security",
    "run_environment",
    "sqlstate",
]
