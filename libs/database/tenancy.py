"""SQL that keeps tenants apart, for migrations.

Row-level security is FORCEd, so the owner of a table obeys it too and, having no policy, sees no row. A data migration
of existing rows therefore must say what it does: `ALTER TABLE t NO FORCE ROW LEVEL SECURITY`, the change, and FORCE
again, in one transaction. Without that it silently changes nothing.
"""

from __future__ import annotations

import re

_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def row_security(service: str, table: str) -> list[str]:
    """Return the statements that show an api login one tenant's rows and a worker login its chunk's tenants.

    :raises ValueError: if a name is not a plain lower-case identifier
    """
    api, worker = _roles(service, table)
    one = "tenant_id = NULLIF(current_setting('app.tenant', true), '')"
    # The sub-select makes PostgreSQL split the list once per statement instead of once per row.
    several = (
        "tenant_id = ANY ((SELECT string_to_array(NULLIF(current_setting('app.tenants', true), ''), ','))::text[])"
    )
    return [
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
        f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
        f"CREATE POLICY {table}_api ON {table} TO {api} USING ({one}) WITH CHECK ({one})",
        f"CREATE POLICY {table}_worker ON {table} TO {worker} USING ({several}) WITH CHECK ({several})",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {api}, {worker}",
    ]


def append_only(service: str, table: str) -> list[str]:
    """Return the statements that leave both logins only SELECT and INSERT; they go behind those of `row_security`."""
    api, worker = _roles(service, table)
    return [f"REVOKE UPDATE, DELETE, TRUNCATE ON {table} FROM {api}, {worker}"]


def queue_access(service: str, table: str) -> list[str]:
    """Return the grants of a queue table: no row-level security, so it may hold tenant, id and due time only."""
    api, worker = _roles(service, table)
    return [
        f"REVOKE ALL ON {table} FROM {api}, {worker}",  # What default privileges may have given.
        f"GRANT SELECT, INSERT, UPDATE ON {table} TO {api}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {worker}",
    ]


def _roles(service: str, table: str) -> tuple[str, str]:
    for name in (service, table):
        if not _IDENTIFIER.fullmatch(name):
            raise ValueError(f"not a plain identifier: {name!r}")
    return f"{service}_api", f"{service}_worker"
