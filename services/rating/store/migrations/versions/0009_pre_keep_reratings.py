"""What reratings changed, and why.

Why: a charge that changes although no usage came has to say who wanted it. Old code does not know the table.
"""

from alembic import op

from libs.database import append_only, row_security

revision = "0009"
down_revision = "0008"

_RERATED = """
CREATE TABLE rerated_charges (
    tenant_id text NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    subscription_id text NOT NULL,
    period_start timestamptz NOT NULL,
    price_id text NOT NULL,
    before_content bytea,
    before_withdrawn boolean NOT NULL,
    before_version bigint NOT NULL,
    content bytea NOT NULL,
    withdrawn boolean NOT NULL,
    version bigint NOT NULL,
    reason text NOT NULL,
    actor text NOT NULL,
    rerated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, request_id, number)
)
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(_RERATED)
    op.execute("CREATE INDEX rerated_charges_newest ON rerated_charges (tenant_id, rerated_at, request_id, number)")
    op.execute("CREATE INDEX rerated_charges_subscription ON rerated_charges (tenant_id, subscription_id, rerated_at)")
    for rule in (*row_security("rating", "rerated_charges"), *append_only("rating", "rerated_charges")):
        op.execute(rule)
