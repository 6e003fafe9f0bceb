"""The first tables of billing: tenants, customers, subscriptions, charges as received, invoices.

Why: invoices are issued from charges, once per subscription and billing period. Two keys guard that: one document per
period, kind and ordinal, and at most one that is not void.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from libs.database import append_only, queue_access, requests_table, row_security
from libs.messaging import inbox_table, parked_tables
from libs.outbox import fact_tables, lease_table, mark_table

revision = "0001"
down_revision = None

_TENANTS = """
CREATE SEQUENCE state_version START WITH 1099511627776;
COMMENT ON SEQUENCE state_version IS 'Versions of all state: owner epoch 1 in the high bits, then a counter.';

CREATE TABLE tenants (
    tenant_id text PRIMARY KEY,
    display_name text NOT NULL,
    invoice_grace_s bigint NOT NULL CHECK (invoice_grace_s >= 0),
    reject_unknown_customers boolean NOT NULL,
    event_past_limit_s bigint NOT NULL CHECK (event_past_limit_s >= 0),
    event_future_limit_s bigint NOT NULL CHECK (event_future_limit_s >= 0),
    invoice_prefix text NOT NULL,
    created_at timestamptz NOT NULL,
    version bigint NOT NULL
);

CREATE TABLE clocks (tenant_id text PRIMARY KEY, test_time timestamptz, version bigint NOT NULL);
COMMENT ON TABLE clocks IS 'Every tenant has a row, so it is also the index of all tenants.';
COMMENT ON COLUMN clocks.test_time IS 'Where the test clock stands; null for a tenant in real time.';

CREATE TABLE api_keys (
    tenant_id text NOT NULL,
    key_id text NOT NULL UNIQUE,
    display_name text NOT NULL,
    secret_hash bytea NOT NULL,
    created_at timestamptz NOT NULL,
    revoked_at timestamptz,
    version bigint NOT NULL,
    PRIMARY KEY (tenant_id, key_id)
);
COMMENT ON COLUMN api_keys.key_id IS 'Unique across tenants: a call names the key before anybody knows its tenant.';

CREATE TABLE customers (
    tenant_id text NOT NULL,
    customer_id text NOT NULL,
    display_name text NOT NULL,
    time_zone text NOT NULL,
    created_at timestamptz NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (tenant_id, customer_id)
);
"""

# Entries of the directory that are to be published, each once however often it changes: its lock orders publications.
_DIRECTORY = """
CREATE TABLE directory_marks (
    tenant_id text NOT NULL,
    item_key text NOT NULL,
    marked_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, item_key)
);
"""

_PERIODS = """
CREATE TABLE subscriptions (
    tenant_id text NOT NULL,
    subscription_id text NOT NULL,
    customer_id text NOT NULL,
    rate_card_id text NOT NULL,
    currency text NOT NULL,
    starts_on date NOT NULL,
    anchor text NOT NULL CHECK (anchor IN ('anniversary', 'calendar')),
    time_zone text NOT NULL,
    created_at timestamptz NOT NULL,
    ended_at timestamptz,
    next_period_index bigint NOT NULL,
    PRIMARY KEY (tenant_id, subscription_id),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES customers
);
CREATE INDEX subscriptions_customer ON subscriptions (tenant_id, customer_id, subscription_id);

CREATE TABLE billing_periods (
    tenant_id text NOT NULL,
    subscription_id text NOT NULL,
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL CHECK (period_end > period_start),
    period_index bigint NOT NULL CHECK (period_index >= 0),
    customer_id text NOT NULL,
    rate_card_id text NOT NULL,
    version bigint NOT NULL DEFAULT nextval('state_version'),
    ordinal bigint NOT NULL CHECK (ordinal >= 1),
    invoiced boolean NOT NULL,
    problem text NOT NULL,
    PRIMARY KEY (tenant_id, subscription_id, period_start),
    UNIQUE (tenant_id, subscription_id, period_index),
    FOREIGN KEY (tenant_id, subscription_id) REFERENCES subscriptions
);
CREATE INDEX billing_periods_problem ON billing_periods (tenant_id) WHERE problem <> '';
COMMENT ON COLUMN billing_periods.ordinal IS 'Of the period''s present or next invoice: one more after each reissue.';
COMMENT ON COLUMN billing_periods.invoiced IS 'The present ordinal has its invoice, or its void one is not replaced.';
COMMENT ON COLUMN billing_periods.problem IS 'Why the period could not be invoiced at the last try.';

CREATE TABLE due_periods (
    tenant_id text NOT NULL,
    subscription_id text NOT NULL,
    period_start timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    closing_at timestamptz,
    try_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, subscription_id, period_start)
);
CREATE INDEX due_periods_new ON due_periods (tenant_id, due_at) WHERE closing_at IS NULL;
CREATE INDEX due_periods_closing ON due_periods (tenant_id, period_start, subscription_id)
    WHERE closing_at IS NOT NULL;
COMMENT ON COLUMN due_periods.due_at IS 'End and grace, on the tenant''s clock.';
COMMENT ON COLUMN due_periods.closing_at IS 'Real time at which the period was first seen due.';
COMMENT ON COLUMN due_periods.try_at IS 'Real time before which no worker takes it: claimed, or after a failure.';

CREATE TABLE due_extensions (
    tenant_id text NOT NULL,
    subscription_id text NOT NULL,
    due_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, subscription_id)
);
CREATE INDEX due_extensions_due ON due_extensions (tenant_id, due_at);

CREATE TABLE charges (
    tenant_id text NOT NULL,
    subscription_id text NOT NULL,
    period_start timestamptz NOT NULL,
    price_id text NOT NULL,
    customer_id text NOT NULL,
    display_name text NOT NULL,
    meter_id text NOT NULL,
    position bigint NOT NULL,
    currency text NOT NULL,
    quantity numeric NOT NULL,
    amount numeric NOT NULL,
    rounding_mode text NOT NULL,
    rate_card_id text NOT NULL,
    rate_card_version bigint NOT NULL,
    engine_version text NOT NULL,
    parts json NOT NULL,
    version bigint NOT NULL,
    trace_parent text NOT NULL,
    PRIMARY KEY (tenant_id, subscription_id, period_start, price_id)
) WITH (fillfactor = 50);
COMMENT ON TABLE charges IS 'Half empty pages: every row is replaced for hours, which then touches no index.';
COMMENT ON COLUMN charges.parts IS 'Written far more often than read, and only as a whole: hence not jsonb.';

CREATE TABLE rating_watermark (id boolean PRIMARY KEY DEFAULT true CHECK (id), rated_through timestamptz);
INSERT INTO rating_watermark DEFAULT VALUES;
CREATE TABLE received_watermarks (
    stream_epoch timestamptz NOT NULL,
    stream_seq bigint NOT NULL,
    watermark_at timestamptz NOT NULL,
    holds jsonb NOT NULL,
    PRIMARY KEY (stream_epoch, stream_seq)
);
CREATE TABLE holds (tenant_id text NOT NULL, reason text NOT NULL, PRIMARY KEY (tenant_id, reason));
"""

_INVOICES = """
CREATE TABLE invoices (
    tenant_id text NOT NULL,
    invoice_id text NOT NULL,
    customer_id text NOT NULL,
    subscription_id text NOT NULL,
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL,
    kind text NOT NULL CHECK (kind IN ('period')),
    ordinal bigint NOT NULL,
    currency text NOT NULL,
    state text NOT NULL CHECK (state IN ('draft', 'issued', 'paid', 'void')),
    invoice_number text NOT NULL,
    number_value bigint,
    total_minor bigint NOT NULL,
    issued_at timestamptz,
    paid_at timestamptz,
    payment_id text NOT NULL,
    voided_at timestamptz,
    void_reason text NOT NULL,
    trace_parent text NOT NULL,
    PRIMARY KEY (tenant_id, invoice_id),
    UNIQUE (tenant_id, subscription_id, period_start, kind, ordinal),
    UNIQUE (tenant_id, number_value),
    FOREIGN KEY (tenant_id, subscription_id, period_start) REFERENCES billing_periods,
    CHECK ((state = 'draft') = (number_value IS NULL)),
    CHECK ((state = 'draft') = (issued_at IS NULL)),
    CHECK ((state = 'paid') = (paid_at IS NOT NULL)),
    CHECK ((state = 'void') = (voided_at IS NOT NULL))
);
-- The guarantee: whatever runs twice, a billing period has at most one invoice that counts.
CREATE UNIQUE INDEX invoices_one_per_period ON invoices (tenant_id, subscription_id, period_start)
    WHERE kind = 'period' AND state <> 'void';
CREATE INDEX invoices_number ON invoices (tenant_id, invoice_number);
CREATE INDEX invoices_customer ON invoices (tenant_id, customer_id, invoice_id);
CREATE INDEX invoices_unpaid ON invoices (tenant_id) WHERE state = 'issued';

CREATE TABLE invoice_lines (
    tenant_id text NOT NULL,
    invoice_id text NOT NULL,
    price_id text NOT NULL,
    position bigint NOT NULL,
    display_name text NOT NULL,
    meter_id text NOT NULL,
    quantity numeric NOT NULL,
    amount_minor bigint NOT NULL,
    exact_amount numeric NOT NULL,
    parts jsonb NOT NULL,
    rate_card_id text NOT NULL,
    rate_card_version bigint NOT NULL,
    charge_version bigint NOT NULL,
    trace_parent text NOT NULL,
    PRIMARY KEY (tenant_id, invoice_id, price_id),
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES invoices
);

CREATE TABLE frozen_charges (
    tenant_id text NOT NULL,
    invoice_id text NOT NULL,
    price_id text NOT NULL,
    quantity numeric NOT NULL,
    amount numeric NOT NULL,
    rounding_mode text NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (tenant_id, invoice_id, price_id),
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES invoices
);

CREATE TABLE invoice_numbers (tenant_id text PRIMARY KEY, last_value bigint NOT NULL);
COMMENT ON TABLE invoice_numbers IS 'A counter in the transaction that issues: without gaps, unlike a sequence.';
"""

_TENANT_TABLES = (
    "tenants",
    "api_keys",
    "customers",
    "subscriptions",
    "billing_periods",
    "charges",
    "invoices",
    "invoice_lines",
    "frozen_charges",
    "invoice_numbers",
)
_QUEUES = (
    "clocks",
    "directory_marks",
    "due_periods",
    "due_extensions",
    "rating_watermark",
    "received_watermarks",
    "holds",
)


def upgrade() -> None:
    for section in (_TENANTS, _DIRECTORY, _PERIODS, _INVOICES):
        _execute_all(section.strip().removesuffix(";").split(";\n"))  # The driver takes one statement at a time.
    for table in _TENANT_TABLES:
        _execute_all(row_security("billing", table))
    for table in ("invoice_lines", "frozen_charges"):
        _execute_all(append_only("billing", table))
    for table in _QUEUES:
        _execute_all(queue_access("billing", table))
    # Ending a subscription takes its future periods out of the queues.
    op.execute("GRANT DELETE ON due_periods, due_extensions TO billing_api")
    op.execute("GRANT USAGE, SELECT ON SEQUENCE state_version TO billing_api, billing_worker")
    _create_library_tables()


def _create_library_tables() -> None:
    metadata = sa.MetaData()
    facts, parked = fact_tables(metadata), parked_tables(metadata)
    marks = [mark_table(metadata, "billing_period_marks"), lease_table(metadata)]
    secured = [facts.facts, parked.messages, requests_table(metadata), inbox_table(metadata)]
    metadata.create_all(op.get_bind())
    for table in secured:
        _execute_all(row_security("billing", table.name))
    for table in [facts.queue, parked.queue, *marks]:
        _execute_all(queue_access("billing", table.name))


def _execute_all(statements: list[str]) -> None:
    for statement in statements:
        op.execute(statement)
