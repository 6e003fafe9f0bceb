"""SQL of billing periods and the queue of those that are not invoiced."""

# ruff: noqa: S608 - what is put into SQL are names of tables and columns, never values.
from __future__ import annotations

from services.billing.domain.invoice import InvoiceKind
from services.billing.store.rows import PERIOD_KEYS, recordset
from services.billing.store.tables import billing_periods

COLUMNS = [column.name for column in billing_periods.c if column.name != "version"]
ADD = f"""
INSERT INTO billing_periods ({", ".join(COLUMNS)}) SELECT {", ".join(COLUMNS)}
FROM {recordset(billing_periods, COLUMNS)} ORDER BY subscription_id, period_start
RETURNING subscription_id, period_start, version
"""
LAST = """
SELECT k.subscription_id, p.period_start, p.period_end
FROM unnest($2::text[]) AS k(subscription_id) CROSS JOIN LATERAL (
    SELECT b.period_start, b.period_end FROM billing_periods b
    WHERE b.tenant_id = $1 AND b.subscription_id = k.subscription_id
    ORDER BY b.period_start DESC LIMIT 1
) p
"""
# The last one that has begun: periods of a subscription follow each other without gap.
CONTAINING = """
SELECT k.subscription_id, p.period_start, p.period_end, p.ordinal, p.rate_card_id
FROM unnest($2::text[]) AS k(subscription_id) CROSS JOIN LATERAL (
    SELECT b.period_start, b.period_end, b.ordinal, b.rate_card_id FROM billing_periods b
    WHERE b.tenant_id = $1 AND b.subscription_id = k.subscription_id AND b.period_start <= $3
    ORDER BY b.period_start DESC LIMIT 1
) p
WHERE p.period_end > $3
"""
START_CLOSING = f"""
UPDATE due_periods d SET closing_at = $4, try_at = $4
FROM (
    SELECT q.subscription_id, q.period_start
    FROM due_periods q JOIN {PERIOD_KEYS} USING (subscription_id, period_start)
    WHERE q.tenant_id = $1 AND q.closing_at IS NULL
    ORDER BY q.subscription_id, q.period_start FOR UPDATE OF q SKIP LOCKED
) seen
WHERE d.tenant_id = $1 AND d.subscription_id = seen.subscription_id AND d.period_start = seen.period_start
RETURNING d.subscription_id, d.period_start
"""
ADD_DRAFTS = f"""
INSERT INTO invoices (tenant_id, invoice_id, customer_id, subscription_id, period_start, period_end, kind, ordinal,
    currency, state, invoice_number, total_minor, payment_id, void_reason, trace_parent)
SELECT p.tenant_id, r.invoice_id, p.customer_id, p.subscription_id, p.period_start, p.period_end,
    '{InvoiceKind.PERIOD}', p.ordinal, s.currency, 'draft', '', 0, '', '', ''
FROM jsonb_to_recordset($2::jsonb) AS r(invoice_id text, subscription_id text, period_start timestamptz)
JOIN billing_periods p USING (subscription_id, period_start)
JOIN subscriptions s USING (tenant_id, subscription_id)
WHERE p.tenant_id = $1
ON CONFLICT DO NOTHING
"""
# A period that another worker has invoiced has no due row any more; one that another worker has claimed since, or
# that was voided and reopened, has another try_at.
LOCK_CLOSING = f"""
SELECT p.subscription_id, p.period_start, p.period_end, p.customer_id, p.ordinal, i.invoice_id, i.currency,
    p.rate_card_id, p.whole_start, p.whole_end
FROM billing_periods p
JOIN {PERIOD_KEYS} USING (subscription_id, period_start)
JOIN due_periods d USING (tenant_id, subscription_id, period_start)
JOIN invoices i USING (tenant_id, subscription_id, period_start)
WHERE p.tenant_id = $1 AND NOT p.invoiced AND d.closing_at IS NOT NULL AND d.try_at = $4
    AND i.kind = '{InvoiceKind.PERIOD}' AND i.state = 'draft' AND i.ordinal = p.ordinal
ORDER BY p.subscription_id, p.period_start
FOR UPDATE OF p, d, i
"""
INVOICED = f"""
UPDATE billing_periods p SET invoiced = true, problem = '' FROM {PERIOD_KEYS}
WHERE p.tenant_id = $1 AND p.subscription_id = k.subscription_id AND p.period_start = k.period_start
"""
NOT_DUE = f"""
DELETE FROM due_periods d USING {PERIOD_KEYS}
WHERE d.tenant_id = $1 AND d.subscription_id = k.subscription_id AND d.period_start = k.period_start
"""
# Both only under the claim that the try was made with: after its end another worker may have issued the invoice.
PROBLEMS = """
UPDATE billing_periods p SET problem = r.problem
FROM unnest($2::text[], $3::timestamptz[], $5::text[]) AS r(subscription_id, period_start, problem)
JOIN due_periods d USING (subscription_id, period_start)
WHERE p.tenant_id = $1 AND p.subscription_id = r.subscription_id AND p.period_start = r.period_start
    AND d.tenant_id = $1 AND d.try_at = $4
"""
TRY_AT = f"""
UPDATE due_periods d SET try_at = $5 FROM {PERIOD_KEYS}
WHERE d.tenant_id = $1 AND d.subscription_id = k.subscription_id AND d.period_start = k.period_start
    AND d.try_at = $4
"""
# Only before anybody has seen the period due: its draft and the question to rating have the end as it was then.
DUE_EARLIER = """
UPDATE due_periods SET due_at = $4
WHERE tenant_id = $1 AND subscription_id = $2 AND period_start = $3 AND closing_at IS NULL
"""
CUT = """
UPDATE billing_periods SET period_end = $4, whole_start = coalesce(whole_start, period_start),
    whole_end = coalesce(whole_end, period_end), version = nextval('state_version')
WHERE tenant_id = $1 AND subscription_id = $2 AND period_start = $3
RETURNING subscription_id, period_start, version
"""
# Of the same cycle as the period that it was cut from, hence the same index.
ADD_REST = """
INSERT INTO billing_periods (tenant_id, subscription_id, period_start, period_end, period_index, customer_id,
    rate_card_id, ordinal, invoiced, problem, whole_start, whole_end)
SELECT tenant_id, subscription_id, $4, $5, period_index, customer_id, rate_card_id, 1, false, '', whole_start, whole_end
FROM billing_periods WHERE tenant_id = $1 AND subscription_id = $2 AND period_start = $3
RETURNING subscription_id, period_start, version
"""
ADD_DUE = """
INSERT INTO due_periods (tenant_id, subscription_id, period_start, due_at, try_at) VALUES ($1, $2, $3, $4, $3)
"""
LOCK_SINCE = """
SELECT p.invoiced FROM billing_periods p
WHERE p.tenant_id = $1 AND p.subscription_id = $2 AND p.period_start >= $3 ORDER BY p.period_start FOR UPDATE
"""
# Periods behind an end have no due row.
LOCK_DUE_SINCE = """
SELECT d.closing_at FROM due_periods d
WHERE d.tenant_id = $1 AND d.subscription_id = $2 AND d.period_start >= $3 ORDER BY d.period_start FOR UPDATE
"""
CHANGE_CARD = """
UPDATE billing_periods SET rate_card_id = $4, version = nextval('state_version')
WHERE tenant_id = $1 AND subscription_id = $2 AND period_start >= $3
RETURNING subscription_id, period_start, version
"""
NEW_VERSIONS = f"""
UPDATE billing_periods p SET version = nextval('state_version') FROM {PERIOD_KEYS}
WHERE p.tenant_id = $1 AND p.subscription_id = k.subscription_id AND p.period_start = k.period_start
RETURNING p.subscription_id, p.period_start, p.version
"""
REOPEN = """
WITH period AS (
    UPDATE billing_periods SET invoiced = false, ordinal = ordinal + 1
    WHERE tenant_id = $1 AND subscription_id = $2 AND period_start = $3 RETURNING period_end
)
INSERT INTO due_periods (tenant_id, subscription_id, period_start, due_at, try_at)
SELECT $1, $2, $3, period_end, $4 FROM period
"""
