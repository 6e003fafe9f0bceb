"""Let several billing periods belong to the same interval of a subscription's cycle.

Why: a change of the rate card in the middle of a period splits it. Old code looks for the last period by its index; it
never finds two, because there is always a later one than the one that is split, or none is made any more.
"""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE billing_periods DROP CONSTRAINT billing_periods_tenant_id_subscription_id_period_index_key")
