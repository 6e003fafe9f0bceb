"""Remember of which whole period a billing period is a part.

Why: rating prorates what is agreed on for a whole one. Old code never names these columns, and the periods that it
makes, or has made, have none: they are not shortened.
"""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE billing_periods ADD COLUMN whole_start timestamptz, ADD COLUMN whole_end timestamptz")
