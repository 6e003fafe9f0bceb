"""Keep the versions of meters.

Why: names and descriptions change, and archived meters stop counting, while what a meter measures stays for good. A row
of `meters` is its version 1 and is never touched; later versions are rows of their own, so that both tables stay
append-only. Old code sees every meter in its first version. Old recorders go on counting for archived meters: archive
once every process runs the new code.
"""

from __future__ import annotations

from alembic import op

from libs.database import append_only, row_security

revision = "0010"
down_revision = "0005"

_VERSIONS = """
CREATE TABLE meter_versions (
    tenant_id text NOT NULL,
    meter_id text COLLATE "C" NOT NULL,
    version integer NOT NULL CHECK (version > 1),
    display_name text NOT NULL,
    description text NOT NULL,
    archived_at timestamptz,
    actor text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, meter_id, version),
    FOREIGN KEY (tenant_id, meter_id) REFERENCES meters
)
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE meters ADD COLUMN description text NOT NULL DEFAULT ''")
    op.execute("ALTER TABLE meters ADD COLUMN actor text NOT NULL DEFAULT ''")
    op.execute(_VERSIONS)
    for statement in (*row_security("ingest", "meter_versions"), *append_only("ingest", "meter_versions")):
        op.execute(statement)
