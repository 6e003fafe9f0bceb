"""The databases and login roles of the four services on one PostgreSQL server."""

from __future__ import annotations

import re
from dataclasses import dataclass

from libs.embedded.postgres import EmbeddedPostgres

SERVICES = ("ingest", "rating", "billing", "payments")
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")

_ROLE = """
SELECT 'CREATE ROLE {role}' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') \\gexec
ALTER ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
"""
_DATABASE = """
SELECT 'CREATE DATABASE {name} OWNER {service}_owner{template}'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{name}') \\gexec
REVOKE ALL ON DATABASE {name} FROM PUBLIC;
GRANT CONNECT ON DATABASE {name} TO {service}_api, {service}_worker;
"""
_SCHEMA = """
ALTER SCHEMA public OWNER TO {service}_owner;
GRANT USAGE ON SCHEMA public TO {service}_api, {service}_worker;
ALTER DEFAULT PRIVILEGES FOR ROLE {service}_owner
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {service}_api, {service}_worker;
ALTER DEFAULT PRIVILEGES FOR ROLE {service}_owner
    GRANT USAGE, SELECT, UPDATE ON SEQUENCES TO {service}_api, {service}_worker;
"""


@dataclass(frozen=True, slots=True)
class ServiceDatabase:
    """One database of one service, and how its three roles log in."""

    service: str
    name: str
    owner_url: str
    api_url: str
    worker_url: str

    def environment(self) -> dict[str, str]:
        """Return the environment variables that the service reads its URLs from."""
        prefix = self.service.upper()
        return {
            f"{prefix}_DATABASE_URL": self.api_url,
            f"{prefix}_WORKER_DATABASE_URL": self.worker_url,
            f"{prefix}_ADMIN_DATABASE_URL": self.owner_url,
        }


class ServiceDatabases:
    """Creates databases and roles; everything may be asked for again and is then left as it is."""

    def __init__(self, postgres: EmbeddedPostgres) -> None:
        self._postgres = postgres

    def ensure(self, service: str, name: str | None = None, *, template: str | None = None) -> ServiceDatabase:
        """Create the service's roles and a database (named like the service unless told otherwise).

        `template` names a database to copy; nobody may be connected to it.

        :raises EmbeddedError: if PostgreSQL refuses
        :raises ValueError: if a name is not a plain lower-case identifier
        """
        name = name or service
        for identifier in (service, name, template or name):
            if not _IDENTIFIER.fullmatch(identifier):
                raise ValueError(f"not a plain identifier: {identifier!r}")
        roles = "".join(_ROLE.format(role=f"{service}_{suffix}") for suffix in ("owner", "api", "worker"))
        copied = f" TEMPLATE {template}" if template else ""
        self._postgres.run_sql(roles + _DATABASE.format(name=name, service=service, template=copied))
        self._postgres.run_sql(_SCHEMA.format(service=service), name)
        owner, api, worker = (self._postgres.url(name, f"{service}_{suffix}") for suffix in ("owner", "api", "worker"))
        return ServiceDatabase(service, name, owner, api, worker)

    def ensure_all(self) -> dict[str, ServiceDatabase]:
        """Create the databases of all services, keyed by service."""
        return {service: self.ensure(service) for service in SERVICES}

    def drop(self, name: str) -> None:
        """Drop a database, ending the sessions that use it; nothing happens if it does not exist."""
        if not _IDENTIFIER.fullmatch(name):
            raise ValueError(f"not a plain identifier: {name!r}")
        self._postgres.run_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
