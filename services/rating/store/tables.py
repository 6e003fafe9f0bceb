"""Rating's tables, as the migrations leave them. The queues, at the end, have no row-level security."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from libs.database import requests_table
from libs.messaging import parked_tables
from libs.outbox import lease_table, mark_table, watermark_table
from services.rating.store.catalog_tables import archived_rate_cards, price_overrides, rate_cards
from services.rating.store.table_columns import INSTANT, UPDATED_IN_PLACE, instant, key, metadata, number, text, whole

# Imported, so that the metadata has them all.
__all__ = ["archived_rate_cards", "metadata", "price_overrides", "rate_cards"]
MIGRATIONS = "services.rating.store.migrations"

requests = requests_table(metadata)

# dimensions_key is a digest of the dimensions, whose text could be too long for an index.
usage_windows = sa.Table(
    "usage_windows",
    metadata,
    key("tenant_id"),
    key("customer_id"),
    key("window_start", INSTANT),
    key("meter_id"),
    key("dimensions_key", sa.LargeBinary()),
    sa.Column("dimensions", JSONB, nullable=False),
    number("value"),
    whole("event_count"),
    whole("version"),
    text("trace_parent"),
    # Changed for a quarter of an hour, kept for more than a year: so less is left free.
    postgresql_with={"fillfactor": "70"},
)

# Roll-up of usage_windows by UTC day, over all dimensions.
usage_days = sa.Table(
    "usage_days",
    metadata,
    key("tenant_id"),
    key("customer_id"),
    key("meter_id"),
    key("day", sa.Date()),
    number("value"),
    whole("event_count"),
    whole("window_count"),
    postgresql_with=UPDATED_IN_PLACE,
)

# Which meters have to be asked for, because a price of a version of the card is on exact usage.
exact_prices = sa.Table("exact_prices", metadata, key("tenant_id"), key("meter_id"), key("rate_card_id"))

# The quantity of a meter whose windows do not add up, as ingest told it for the windows up to highest_version when it
# was asked for the question-th time.
exact_usage = sa.Table(
    "exact_usage",
    metadata,
    key("tenant_id"),
    key("subscription_id"),
    key("period_start", INSTANT),
    key("meter_id"),
    number("value"),
    whole("event_count"),
    whole("highest_version"),
    whole("question"),
)

# Which meters are priced by their dimensions, by a version of the card.
matrix_prices = sa.Table("matrix_prices", metadata, key("tenant_id"), key("meter_id"), key("rate_card_id"))

# Billing's state. fetched: the windows of the period were asked for from ingest since this version.
billing_periods = sa.Table(
    "billing_periods",
    metadata,
    key("tenant_id"),
    key("subscription_id"),
    key("period_start", INSTANT),
    instant("period_end"),
    text("customer_id"),
    text("rate_card_id"),
    whole("version"),
    text("time_zone"),
    instant("whole_start", nullable=True),
    instant("whole_end", nullable=True),
    sa.Column("fetched", sa.Boolean, nullable=False),
    text("currency"),
    sa.Index("billing_periods_of_customer", "customer_id", "tenant_id"),
    sa.Index("billing_periods_of_rate_card", "rate_card_id"),
    sa.Index("billing_periods_by_customer", "tenant_id", "customer_id", "subscription_id", "period_start"),
)

# Roll-up of usage_windows by billing period, over all dimensions: what a charge's quantity is taken from.
period_usage = sa.Table(
    "period_usage",
    metadata,
    key("tenant_id"),
    key("subscription_id"),
    key("period_start", INSTANT),
    key("meter_id"),
    number("value"),
    whole("event_count"),
    whole("window_count"),
    whole("highest_version"),
    text("trace_parent"),
    postgresql_with=UPDATED_IN_PLACE,
)

# Roll-up of usage_windows by billing period and dimensions, of meters in matrix_prices of the period's card.
period_dimensions = sa.Table(
    "period_dimensions",
    metadata,
    key("tenant_id"),
    key("subscription_id"),
    key("period_start", INSTANT),
    key("meter_id"),
    key("dimensions_key", sa.LargeBinary()),
    sa.Column("dimensions", JSONB, nullable=False),
    number("value"),
    whole("event_count"),
    postgresql_with=UPDATED_IN_PLACE,
)

# withdrawn: the card in force no longer has the price; the charge stays, at zero, so that consumers learn of it.
# content: all that the charge says, as it is published (protobuf, without version and trace_parent).
charges = sa.Table(
    "charges",
    metadata,
    key("tenant_id"),
    key("subscription_id"),
    key("period_start", INSTANT),
    key("price_id"),
    text("meter_id"),
    number("quantity"),
    number("amount"),
    sa.Column("withdrawn", sa.Boolean, nullable=False),
    whole("version"),
    text("trace_parent"),
    sa.Column("content", sa.LargeBinary, nullable=False),
    postgresql_with=UPDATED_IN_PLACE,
)

# Cards of which a version, or an override, has a commitment over several billing periods.
committed_cards = sa.Table("committed_cards", metadata, key("tenant_id"), key("rate_card_id"))

# Their rows are the locks of subscriptions with such commitments; they say nothing.
committed_subscriptions = sa.Table("committed_subscriptions", metadata, key("tenant_id"), key("subscription_id"))

# What a price with such a commitment cost in a billing period before it. Its amount was made of what those from
# term_start on had used.
committed_costs = sa.Table(
    "committed_costs",
    metadata,
    key("tenant_id"),
    key("subscription_id"),
    key("period_start", INSTANT),
    key("price_id"),
    instant("term_start"),
    number("used"),
    number("cost"),
    postgresql_with=UPDATED_IN_PLACE,
)

# What reratings changed: contents of charges before (null if there was none) and after. Rows never change.
rerated_charges = sa.Table(
    "rerated_charges",
    metadata,
    key("tenant_id"),
    key("request_id"),
    key("number", sa.BigInteger()),
    text("subscription_id"),
    instant("period_start"),
    text("price_id"),
    sa.Column("before_content", sa.LargeBinary),
    sa.Column("before_withdrawn", sa.Boolean, nullable=False),
    whole("before_version"),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("withdrawn", sa.Boolean, nullable=False),
    whole("version"),
    text("reason"),
    text("actor"),
    instant("rerated_at"),
    sa.Index("rerated_charges_newest", "tenant_id", "rerated_at", "request_id", "number"),
    sa.Index("rerated_charges_subscription", "tenant_id", "subscription_id", "rerated_at"),
)

# Why a billing period could not be rated; gone as soon as it could.
rating_problems = sa.Table(
    "rating_problems",
    metadata,
    key("tenant_id"),
    key("subscription_id"),
    key("period_start", INSTANT),
    text("reason"),
    text("description"),
    instant("failed_at"),
)

# Queue of billing periods to be rated, by marks that are only ever added and deleted. Their numbers, of one sequence,
# tell which watermark may pass. urgent: rate it also if it was set aside.
rating_marks = sa.Table(
    "rating_marks",
    metadata,
    key("mark", sa.BigInteger()),
    text("tenant_id"),
    text("subscription_id"),
    instant("period_start"),
    instant("marked_at"),
    sa.Column("urgent", sa.Boolean, nullable=False),
    # All rows are dead soon: vacuum by their number, not by their share.
    postgresql_with={"autovacuum_vacuum_scale_factor": "0", "autovacuum_vacuum_threshold": "20000"},
)

# Billing periods that could not be rated, and when they are tried again (real time).
rating_retries = sa.Table(
    "rating_retries",
    metadata,
    key("tenant_id"),
    key("subscription_id"),
    key("period_start", INSTANT),
    sa.Column("attempts", sa.Integer, nullable=False),
    instant("due_at"),
    sa.Index("rating_retries_by_time", "due_at"),
)

# Watermarks of ingest that have not been passed on; mark is null until the acknowledgement floor has reached them.
# Sequences begin again when a stream is recreated, hence its epoch.
received_watermarks = sa.Table(
    "received_watermarks",
    metadata,
    key("stream_epoch", INSTANT),
    key("stream_sequence", sa.BigInteger()),
    instant("watermark_at"),
    sa.Column("holds", JSONB, nullable=False),
    whole("mark", nullable=True),
)

# Queue of charges to be published, and the watermarks that follow them.
charge_marks = mark_table(metadata, "charge_marks")
outbox_leases = lease_table(metadata)
outbox_watermarks = watermark_table(metadata)

# Messages that could not be handled, and the queue of those that wait for people.
parked = parked_tables(metadata)
