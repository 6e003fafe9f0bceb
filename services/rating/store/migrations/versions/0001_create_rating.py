"""Create the tables of rating.

Revision ID: 0001
"""

from alembic import op

from libs.database import append_only, queue_access, row_security

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Secondary indexes do not begin with the tenant, and the small one of rate cards does without it: before there are
# statistics, PostgreSQL takes an index with the tenant for as good as the primary key when it looks up (tenant,
# subscription, start), and reads all periods of the tenant.

# Owner epoch 1 in the high bits of every version; a restore from a backup raises the epoch.
SEQUENCES = """
CREATE SEQUENCE state_version START 1099511627776;
CREATE SEQUENCE rating_mark;
GRANT USAGE, SELECT ON SEQUENCE state_version, rating_mark TO rating_api, rating_worker;
"""

TABLES = """
CREATE TABLE requests (
    tenant_id text NOT NULL,
    method text NOT NULL,
    request_id text NOT NULL,
    fingerprint bytea NOT NULL,
    result_id text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, method, request_id)
);

CREATE TABLE rate_cards (
    tenant_id text NOT NULL,
    rate_card_id text NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    display_name text NOT NULL,
    currency text NOT NULL,
    effective_at timestamptz,
    prices jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, rate_card_id, version)
);

CREATE TABLE usage_windows (
    tenant_id text NOT NULL,
    customer_id text NOT NULL,
    window_start timestamptz NOT NULL,
    meter_id text NOT NULL,
    dimensions_key bytea NOT NULL,
    dimensions jsonb NOT NULL,
    value numeric NOT NULL,
    event_count bigint NOT NULL,
    version bigint NOT NULL,
    trace_parent text NOT NULL,
    PRIMARY KEY (tenant_id, customer_id, window_start, meter_id, dimensions_key)
) WITH (fillfactor = 70);

CREATE TABLE usage_days (
    tenant_id text NOT NULL,
    customer_id text NOT NULL,
    meter_id text NOT NULL,
    day date NOT NULL,
    value numeric NOT NULL,
    event_count bigint NOT NULL,
    window_count bigint NOT NULL,
    PRIMARY KEY (tenant_id, customer_id, meter_id, day)
) WITH (fillfactor = 45);

CREATE TABLE billing_periods (
    tenant_id text NOT NULL,
    subscription_id text NOT NULL,
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL,
    customer_id text NOT NULL,
    rate_card_id text NOT NULL,
    version bigint NOT NULL,
    fetched boolean NOT NULL,
    PRIMARY KEY (tenant_id, subscription_id, period_start),
    CHECK (period_start < period_end)
);
CREATE INDEX billing_periods_of_customer ON billing_periods (customer_id, tenant_id);
CREATE INDEX billing_periods_of_rate_card ON billing_periods (rate_card_id);

CREATE TABLE period_usage (
    tenant_id text NOT NULL,
    subscription_id text NOT NULL,
    period_start timestamptz NOT NULL,
    meter_id text NOT NULL,
    value numeric NOT NULL,
    event_count bigint NOT NULL,
    window_count bigint NOT NULL,
    highest_version bigint NOT NULL,
    trace_parent text NOT NULL,
    PRIMARY KEY (tenant_id, subscription_id, period_start, meter_id)
) WITH (fillfactor = 45);

CREATE TABLE charges (
    tenant_id text NOT NULL,
    subscription_id text NOT NULL,
    period_start timestamptz NOT NULL,
    price_id text NOT NULL,
    meter_id text NOT NULL,
    quantity numeric NOT NULL,
    amount numeric NOT NULL,
    withdrawn boolean NOT NULL,
    version bigint NOT NULL,
    trace_parent text NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (tenant_id, subscription_id, period_start, price_id)
) WITH (fillfactor = 45);

CREATE TABLE rating_problems (
    tenant_id text NOT NULL,
    subscription_id text NOT NULL,
    period_start timestamptz NOT NULL,
    reason text NOT NULL,
    description text NOT NULL,
    failed_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, subscription_id, period_start)
);

CREATE TABLE rating_marks (
    mark bigint PRIMARY KEY,
    tenant_id text NOT NULL,
    subscription_id text NOT NULL,
    period_start timestamptz NOT NULL,
    marked_at timestamptz NOT NULL,
    urgent boolean NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);

CREATE TABLE rating_retries (
    tenant_id text NOT NULL,
    subscription_id text NOT NULL,
    period_start timestamptz NOT NULL,
    attempts integer NOT NULL,
    due_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, subscription_id, period_start)
);
CREATE INDEX rating_retries_by_time ON rating_retries (due_at);

CREATE TABLE received_watermarks (
    stream_epoch timestamptz NOT NULL,
    stream_sequence bigint NOT NULL,
    watermark_at timestamptz NOT NULL,
    holds jsonb NOT NULL,
    mark bigint,
    PRIMARY KEY (stream_epoch, stream_sequence)
);

CREATE TABLE charge_marks (
    version bigint PRIMARY KEY,
    tenant_id text NOT NULL,
    item_key text NOT NULL,
    marked_at timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);

CREATE TABLE outbox_leases (
    name text PRIMARY KEY,
    holder text NOT NULL,
    held_until timestamptz NOT NULL
);

CREATE TABLE outbox_watermarks (
    name text PRIMARY KEY,
    awaited_at timestamptz,
    awaited_after_version bigint,
    awaited_payload bytea,
    latest_at timestamptz,
    latest_after_version bigint,
    latest_payload bytea,
    forwarded_through timestamptz,
    forwarded_at timestamptz
);

COMMENT ON COLUMN requests.fingerprint IS 'Digest of the request without its id.';
COMMENT ON COLUMN requests.result_id IS 'What the first call made, to be read again.';
COMMENT ON COLUMN outbox_watermarks.awaited_at IS 'The watermark to be published next.';
COMMENT ON COLUMN outbox_watermarks.latest_at IS 'The newest one offered behind it.';
COMMENT ON COLUMN outbox_watermarks.forwarded_through IS 'The watermark published last.';
COMMENT ON COLUMN outbox_watermarks.forwarded_at IS 'When that was.';

CREATE TABLE parked_messages (
    tenant_id text NOT NULL,
    id text NOT NULL,
    consumer text NOT NULL,
    stream text NOT NULL,
    stream_epoch timestamptz NOT NULL,
    stream_seq bigint NOT NULL,
    subject text NOT NULL,
    headers jsonb NOT NULL,
    payload bytea NOT NULL,
    error text NOT NULL,
    parked_at timestamptz NOT NULL,
    resolved_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT parked_messages_delivery_key UNIQUE (tenant_id, consumer, stream, stream_epoch, stream_seq)
);

CREATE TABLE parked_queue (
    tenant_id text NOT NULL,
    id text NOT NULL,
    parked_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
"""

TENANT_TABLES = (
    "requests",
    "rate_cards",
    "usage_windows",
    "usage_days",
    "billing_periods",
    "period_usage",
    "charges",
    "rating_problems",
    "parked_messages",
)


QUEUES = (
    "rating_marks",
    "rating_retries",
    "received_watermarks",
    "charge_marks",
    "outbox_leases",
    "outbox_watermarks",
    "parked_queue",
)


def upgrade() -> None:
    """Make everything in one transaction."""
    for statement in (SEQUENCES + TABLES).split(";\n"):  # asyncpg prepares, and one statement at a time.
        if statement.strip():
            op.execute(statement)
    for table in TENANT_TABLES:
        for statement in row_security("rating", table):
            op.execute(statement)
    for statement in append_only("rating", "rate_cards"):
        op.execute(statement)
    for table in QUEUES:
        for statement in queue_access("rating", table):
            op.execute(statement)
