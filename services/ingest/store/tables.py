"""Tables that `libs` define and work with. Ingest's own are in the migrations: only set-wise SQL reads them."""

from __future__ import annotations

import sqlalchemy as sa

from libs.database import requests_table
from libs.messaging.parked import parked_tables
from libs.outbox import lease_table, mark_table, watermark_table

metadata = sa.MetaData()

requests = requests_table(metadata)
parked = parked_tables(metadata)
window_marks = mark_table(metadata, "usage_window_marks")
leases = lease_table(metadata)
watermarks = watermark_table(metadata)

QUEUES = (parked.queue, window_marks, leases, watermarks)
"""Without row-level security: tenant, id and due time only."""

TENANT_TABLES = (requests, parked.messages)
