"""Remember of which whole period a billing period is a part.

Why: prices can be prorated. Old code never names these columns, and what it stores has none: it is not shortened.
"""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE billing_periods ADD COLUMN whole_start timestamptz, ADD COLUMN whole_end timestamptz")
