"""Create the tables of payments.

Revision ID: 0001
"""

from alembic import op

from libs.database import append_only, queue_access, row_security

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SHARED = """
CREATE TABLE requests (
    tenant_id text NOT NULL,
    method text NOT NULL,
    request_id text NOT NULL,
    fingerprint bytea NOT NULL,
    result_id text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, method, request_id)
);

CREATE TABLE inbox (
    tenant_id text NOT NULL,
    consumer text NOT NULL,
    event_id text NOT NULL,
    body_hash bytea NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, consumer, event_id)
);

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

CREATE TABLE outbox_facts (
    tenant_id text NOT NULL,
    event_id text NOT NULL,
    subject text NOT NULL,
    payload bytea NOT NULL,
    trace_headers jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, event_id)
);

CREATE TABLE outbox_fact_queue (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text NOT NULL,
    event_id text NOT NULL,
    due_at timestamptz NOT NULL,
    published_at timestamptz
);
CREATE INDEX outbox_fact_queue_due ON outbox_fact_queue (due_at) WHERE published_at IS NULL;
CREATE INDEX outbox_fact_queue_published ON outbox_fact_queue (published_at) WHERE published_at IS NOT NULL;
"""

TABLES = """
CREATE TABLE invoices (
    tenant_id text NOT NULL,
    invoice_id text NOT NULL,
    invoice_number text NOT NULL,
    customer_id text NOT NULL,
    currency text NOT NULL,
    total_minor_units bigint NOT NULL,
    captured_minor_units bigint NOT NULL,
    collectable boolean NOT NULL,
    voided_at timestamptz,
    PRIMARY KEY (tenant_id, invoice_id),
    CONSTRAINT invoices_never_over_captured CHECK (captured_minor_units BETWEEN 0 AND total_minor_units)
);

CREATE TABLE payments (
    tenant_id text NOT NULL,
    payment_id text NOT NULL,
    invoice_id text NOT NULL,
    invoice_number text NOT NULL,
    customer_id text NOT NULL,
    currency text NOT NULL,
    amount_minor_units bigint NOT NULL CHECK (amount_minor_units > 0),
    state text NOT NULL CHECK (state IN ('requires_method', 'scheduled', 'processing', 'succeeded', 'canceled')),
    created_at timestamptz NOT NULL,
    next_attempt_at timestamptz,
    attempt_count integer NOT NULL,
    soft_declines integer NOT NULL,
    trace_parent text NOT NULL,
    PRIMARY KEY (tenant_id, payment_id),
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES invoices
);
CREATE UNIQUE INDEX payments_one_live_per_invoice ON payments (tenant_id, invoice_id) WHERE state <> 'canceled';
CREATE INDEX payments_invoice ON payments (tenant_id, invoice_id);
CREATE INDEX payments_customer ON payments (tenant_id, customer_id, payment_id);
-- Those that somebody may look for by their state; what is over is almost all.
CREATE INDEX payments_open ON payments (tenant_id, state, payment_id)
    WHERE state IN ('requires_method', 'scheduled', 'processing');

CREATE TABLE payment_attempts (
    tenant_id text NOT NULL,
    payment_id text NOT NULL,
    number integer NOT NULL CHECK (number > 0),
    idempotency_key text NOT NULL,
    customer_id text NOT NULL,
    gateway_token text NOT NULL,
    state text NOT NULL CHECK (state IN ('created', 'succeeded', 'declined_soft', 'declined_hard', 'unknown')),
    created_at timestamptz NOT NULL,
    tried_at timestamptz NOT NULL,
    gateway_charge_id text NOT NULL,
    decline_code text NOT NULL,
    asks integer NOT NULL,
    settled_by text NOT NULL,
    PRIMARY KEY (tenant_id, payment_id, number),
    FOREIGN KEY (tenant_id, payment_id) REFERENCES payments
);
CREATE UNIQUE INDEX payment_attempts_key ON payment_attempts (tenant_id, idempotency_key);
-- At most one attempt of a payment may be open, and at most one may ever have succeeded.
CREATE UNIQUE INDEX payment_attempts_one_open ON payment_attempts (tenant_id, payment_id)
    WHERE state IN ('created', 'unknown', 'succeeded');
-- A charge of the gateway pays one invoice, also when a person types its id.
CREATE UNIQUE INDEX payment_attempts_one_per_charge ON payment_attempts (tenant_id, gateway_charge_id)
    WHERE state = 'succeeded';
-- How often a card was tried in vain; most attempts succeed and leave this index at once.
CREATE INDEX payment_attempts_card ON payment_attempts (tenant_id, customer_id, gateway_token)
    WHERE state <> 'succeeded';

CREATE TABLE manual_settlements (
    tenant_id text NOT NULL,
    payment_id text NOT NULL,
    attempt_number integer NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('captured', 'failed')),
    gateway_reference text NOT NULL,
    reason text NOT NULL CHECK (reason <> ''),
    actor text NOT NULL CHECK (actor <> ''),
    request_id text NOT NULL,
    settled_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, payment_id, attempt_number),
    FOREIGN KEY (tenant_id, payment_id, attempt_number) REFERENCES payment_attempts
);

CREATE TABLE payment_methods (
    tenant_id text NOT NULL,
    payment_method_id text NOT NULL,
    customer_id text NOT NULL,
    gateway_token text NOT NULL,
    created_at timestamptz NOT NULL,
    current boolean NOT NULL,
    PRIMARY KEY (tenant_id, payment_method_id)
);
CREATE UNIQUE INDEX payment_methods_current ON payment_methods (tenant_id, customer_id) WHERE current;

CREATE TABLE ledger_transactions (
    tenant_id text NOT NULL,
    transaction_id text NOT NULL,
    position bigint GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL,
    invoice_id text NOT NULL,
    posted_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, transaction_id)
);
CREATE INDEX ledger_transactions_position ON ledger_transactions (tenant_id, position);
CREATE INDEX ledger_transactions_invoice ON ledger_transactions (tenant_id, invoice_id);

CREATE TABLE ledger_entries (
    tenant_id text NOT NULL,
    transaction_id text NOT NULL,
    entry integer NOT NULL,
    account text NOT NULL,
    customer_id text NOT NULL,
    currency text NOT NULL,
    amount_minor_units bigint NOT NULL CHECK (amount_minor_units <> 0),
    PRIMARY KEY (tenant_id, transaction_id, entry),
    FOREIGN KEY (tenant_id, transaction_id) REFERENCES ledger_transactions
);

CREATE TABLE payment_tasks (
    tenant_id text NOT NULL,
    payment_id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('collect', 'ask')),
    due_at timestamptz NOT NULL,
    claimed_until timestamptz,
    PRIMARY KEY (tenant_id, payment_id)
);
CREATE INDEX payment_tasks_due ON payment_tasks (due_at);

-- The sandbox gateway's own record: it stands in for a third party, and payments reads it only through its client.
CREATE TABLE sandbox_gateway_charges (
    tenant_id text NOT NULL,
    idempotency_key text NOT NULL,
    charge_id text NOT NULL,
    reference text NOT NULL,
    token text NOT NULL,
    currency text NOT NULL,
    amount_minor_units bigint NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('captured', 'declined', 'dropped')),
    decline_code text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, idempotency_key)
);
CREATE INDEX sandbox_gateway_charges_reference ON sandbox_gateway_charges (tenant_id, reference);
"""

# The last line of defence: whatever code runs, no unbalanced transaction can be committed, and none changed.
LEDGER = (
    """
    CREATE FUNCTION ledger_transaction_balances() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        -- Also refuses entries that the tenant set meanwhile hides from the check.
        IF NOT EXISTS (
            SELECT FROM ledger_entries WHERE tenant_id = NEW.tenant_id AND transaction_id = NEW.transaction_id
        ) OR EXISTS (
            SELECT FROM ledger_entries
            WHERE tenant_id = NEW.tenant_id AND transaction_id = NEW.transaction_id
            GROUP BY currency HAVING sum(amount_minor_units) <> 0
        ) THEN
            RAISE EXCEPTION 'ledger transaction % of % does not balance', NEW.transaction_id, NEW.tenant_id
                USING ERRCODE = 'check_violation';
        END IF;
        RETURN NULL;
    END $$
    """,
    """
    CREATE CONSTRAINT TRIGGER ledger_transactions_balance AFTER INSERT ON ledger_transactions
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger_transaction_balances()
    """,
    """
    CREATE CONSTRAINT TRIGGER ledger_entries_balance AFTER INSERT ON ledger_entries
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger_transaction_balances()
    """,
    """
    CREATE FUNCTION only_grows() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
    END $$
    """,
)

TENANT_TABLES = (
    "requests",
    "inbox",
    "parked_messages",
    "outbox_facts",
    "invoices",
    "payments",
    "payment_attempts",
    "manual_settlements",
    "payment_methods",
    "ledger_transactions",
    "ledger_entries",
    "sandbox_gateway_charges",
)
# Nobody, not even the owner, takes back what was posted, or what a person has said.
APPEND_ONLY = ("ledger_transactions", "ledger_entries", "manual_settlements")
ONLY_GROWS = """
CREATE TRIGGER {table}_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION only_grows()
"""
QUEUES = ("outbox_fact_queue", "parked_queue", "payment_tasks")


def upgrade() -> None:
    for statement in (SHARED + TABLES).split(";\n"):  # asyncpg prepares, and one statement at a time.
        if statement.strip():
            op.execute(statement)
    for statement in LEDGER:
        op.execute(statement)
    for table in TENANT_TABLES:
        for statement in row_security("payments", table):
            op.execute(statement)
    for table in APPEND_ONLY:
        op.execute(ONLY_GROWS.format(table=table))
        for statement in append_only("payments", table):
            op.execute(statement)
    for table in QUEUES:
        for statement in queue_access("payments", table):
            op.execute(statement)
    # An api call removes what is due for a payment when it cancels it.
    op.execute("GRANT DELETE ON payment_tasks TO payments_api")
