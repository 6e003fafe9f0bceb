"""What the bootstrap Job does to a PostgreSQL server, on a real one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from libs.embedded.binaries import postgres_bin
from libs.embedded.databases import ServiceDatabases
from libs.embedded.postgres import EmbeddedPostgres
from tests.unit.deploy.manifests import K8S, SERVICES

LOGINS = ("owner", "api", "worker")
RIGHTS = """
SELECT d.datdba::regrole, d.encoding, d.datcollate, d.datlocprovider, d.datacl FROM pg_database AS d
WHERE d.datname = current_database();
SELECT nspowner::regrole, nspacl FROM pg_namespace WHERE nspname = 'public';
SELECT defaclrole::regrole, defaclobjtype, defaclacl FROM pg_default_acl ORDER BY defaclobjtype;
"""
ROLES = """
SELECT rolname, rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls,
    rolpassword LIKE 'SCRAM-SHA-256$%'
FROM pg_authid WHERE rolname ~ '^(ingest|rating|billing|payments)_' ORDER BY rolname;
"""


@pytest.fixture
def bootstrapped(tmp_path: Path, postgres: EmbeddedPostgres) -> EmbeddedPostgres:
    """A server on which the Job has run twice, as it does when it is deployed again."""
    passwords = {f"{service}_{login}": f"it's {service} {login}\n" for service in SERVICES for login in LOGINS}
    for name, password in (passwords | {"superuser": "ignored"}).items():
        (tmp_path / name).write_text(password)
    environment = {
        "PATH": f"{postgres_bin()}:{os.defpath}",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(postgres.port),
        "PGUSER": "postgres",
        "PASSWORDS": str(tmp_path),
    }
    script = ["sh", str(K8S / "base" / "postgres" / "bootstrap.sh")]
    for _ in range(2):
        outcome = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
        assert outcome.returncode == 0, outcome.stderr
    return postgres


def test_gives_the_same_rights_as_the_embedded_mode(bootstrapped: EmbeddedPostgres) -> None:
    for service in SERVICES:
        embedded = ServiceDatabases(bootstrapped).ensure(service, f"{service}_embedded")

        assert bootstrapped.run_sql(RIGHTS, service) == bootstrapped.run_sql(RIGHTS, embedded.name)


def test_the_roles_have_passwords_and_no_powers(bootstrapped: EmbeddedPostgres) -> None:
    roles = bootstrapped.run_sql(ROLES)

    assert roles == sorted(f"{service}_{login}|t|f|f|f|f|f|t" for service in SERVICES for login in LOGINS)
