"""Let meters aggregate otherwise than by counting and adding up.

Why: a window of a minimum, maximum or latest value is merged otherwise, and of a latest value it has to hold when that
was. Old code names none of these columns. It cannot read meters of the new kinds: those can be created once every
process runs the new code, acceptors and recorders before the query role (ADR 0033).
"""

from alembic import op

revision = "0004"
down_revision = "0003"

_AGGREGATIONS = "count", "sum", "min", "max", "avg", "latest", "unique_count", "weighted_sum", "percentile"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE meters ADD COLUMN options jsonb NOT NULL DEFAULT '{}'")
    op.execute("ALTER TABLE meters DROP CONSTRAINT meters_aggregation_check")
    op.execute(f"ALTER TABLE meters ADD CONSTRAINT meters_aggregation_check CHECK (aggregation IN {_AGGREGATIONS})")
    op.execute("ALTER TABLE usage_windows ADD COLUMN latest_ns bigint NOT NULL DEFAULT 0")
    op.execute("ALTER TABLE usage_windows ADD COLUMN latest_position bigint NOT NULL DEFAULT 0")
