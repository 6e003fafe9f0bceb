"""Rating's tables, as the migrations leave them. The queues, at the end, have no row-level security."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from libs.database import requests_table
from libs.messaging import parked_tables
from libs.outbox import lease_table, mark_table, watermark_table

MIGRATIONS = "services.rating.store.migrations"

metadata = sa.MetaData()

_INSTANT = sa.DateTime(timezone=True)

# Half of each page stays free for new versions of its rows: an update then leaves the indexes alone, also if one
# transaction updates all rows of the page.
_UPDATED_IN_PLACE = {"fillfactor": "45"}


def _key(name: str, kind: sa.types.TypeEngine[Any] | None = None) -> sa.Column[Any]:
    return sa.Column(name, kind or sa.Text(), primary_key=True, autoincrement=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _whole(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)


def _instant(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, _INSTANT, nullable=nullable)


def _number(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Numeric, nullable=False)


requests = requests_table(metadata)

# Versions never change. effective_at is null on a first version that is in force from the beginning of time.
rate_cards = sa.Table(
    "rate_cards",
    metadata,
    _key("tenant_id"),
    _key("rate_card_id"),
    _key("version", sa.Integer()),
    _text("display_name"),
    _text("currency"),
    _instant("effective_at", nullable=True),
    sa.Column("prices", JSONB, nullable=False),
    _instant("created_at"),
    _text("override_reason"),
)

# For all subscriptions of a customer or for one: the other id is empty. Of a row only end_at changes.
price_overrides = sa.Table(
    "price_overrides",
    metadata,
    _key("tenant_id"),
    _key("override_id"),
    sa.Column("number", sa.BigInteger, sa.Identity(always=True), nullable=False),
    _text("rate_card_id"),
    _text("customer_id"),
    _text("subscription_id"),
    sa.Column("prices", JSONB, nullable=False),
    _instant("effective_at", nullable=True),
    _instant("end_at", nullable=True),
    _text("reason"),
    _instant("created_at"),
    sa.Index("price_overrides_customer_id", "tenant_id", "customer_id", postgresql_where=sa.text("customer_id <> ''")),
    sa.Index(
        "price_overrides_subscription_id",
        "tenant_id",
        "subscription_id",
        postgresql_where=sa.text("subscription_id <> ''"),
    ),
)

# dimensions_key is a digest of the dimensions, whose text could be too long for an index.
usage_windows = sa.Table(
    "usage_windows",
    metadata,
    _key("tenant_id"),
    _key("customer_id"),
    _key("window_start", _INSTANT),
    _key("meter_id"),
    _key("dimensions_key", sa.LargeBinary()),
    sa.Column("dimensions", JSONB, nullable=False),
    _number("value"),
    _whole("event_count"),
    _whole("version"),
    _text("trace_parent"),
    # Changed for a quarter of an hour, kept for more than a year: so less is left free.
    postgresql_with={"fillfactor": "70"},
)

# Roll-up of usage_windows by UTC day, over all dimensions.
usage_days = sa.Table(
    "usage_days",
    metadata,
    _key("tenant_id"),
    _key("customer_id"),
    _key("meter_id"),
    _key("day", sa.Date()),
    _number("value"),
    _whole("event_count"),
    _whole("window_count"),
    postgresql_with=_UPDATED_IN_PLACE,
)

# Which meters have to be asked for, because a price of a version of the card is on exact usage.
exact_prices = sa.Table("exact_prices", metadata, _key("tenant_id"), _key("meter_id"), _key("rate_card_id"))

# The quantity of a meter whose windows do not add up, as ingest told it for the windows up to highest_version when it
# was asked for the question-th time.
exact_usage = sa.Table(
    "exact_usage",
    metadata,
    _key("tenant_id"),
    _key("subscription_id"),
    _key("period_start", _INSTANT),
    _key("meter_id"),
    _number("value"),
    _whole("event_count"),
    _whole("highest_version"),
    _whole("question"),
)

# Which meters are priced by their dimensions, by a version of the card.
matrix_prices = sa.Table("matrix_prices", metadata, _key("tenant_id"), _key("meter_id"), _key("rate_card_id"))

# Billing's state. fetched: the windows of the period were asked for from ingest since this version.
billing_periods = sa.Table(
    "billing_periods",
    metadata,
    _key("tenant_id"),
    _key("subscription_id"),
    _key("period_start", _INSTANT),
    _instant("period_end"),
    _text("customer_id"),
    _text("rate_card_id"),
    _whole("version"),
    _text("time_zone"),
    _instant("whole_start", nullable=True),
    _instant("whole_end", nullable=True),
    sa.Column("fetched", sa.Boolean, nullable=False),
    sa.Index("billing_periods_of_customer", "customer_id", "tenant_id"),
    sa.Index("billing_periods_of_rate_card", "rate_card_id"),
    sa.Index("billing_periods_by_customer", "tenant_id", "customer_id", "subscription_id", "period_start"),
)

# Roll-up of usage_windows by billing period, over all dimensions: what a charge's quantity is taken from.
period_usage = sa.Table(
    "period_usage",
    metadata,
    _key("tenant_id"),
    _key("subscription_id"),
    _key("period_start", _INSTANT),
    _key("meter_id"),
    _number("value"),
    _whole("event_count"),
    _whole("window_count"),
    _whole("highest_version"),
    _text("trace_parent"),
    postgresql_with=_UPDATED_IN_PLACE,
)

# Roll-up of usage_windows by billing period and dimensions, of meters in matrix_prices of the period's card.
period_dimensions = sa.Table(
    "period_dimensions",
    metadata,
    _key("tenant_id"),
    _key("subscription_id"),
    _key("period_start", _INSTANT),
    _key("meter_id"),
    _key("dimensions_key", sa.LargeBinary()),
    sa.Column("dimensions", JSONB, nullable=False),
    _number("value"),
    _whole("event_count"),
    postgresql_with=_UPDATED_IN_PLACE,
)

# withdrawn: the card in force no longer has the price; the charge stays, at zero, so that consumers learn of it.
# content: all that the charge says, as it is published (protobuf, without version and trace_parent).
charges = sa.Table(
    "charges",
    metadata,
    _key("tenant_id"),
    _key("subscription_id"),
    _key("period_start", _INSTANT),
    _key("price_id"),
    _text("meter_id"),
    _number("quantity"),
    _number("amount"),
    sa.Column("withdrawn", sa.Boolean, nullable=False),
    _whole("version"),
    _text("trace_parent"),
    sa.Column("content", sa.LargeBinary, nullable=False),
    postgresql_with=_UPDATED_IN_PLACE,
)

# Cards of which a version, or an override, has a commitment over several billing periods.
committed_cards = sa.Table("committed_cards", metadata, _key("tenant_id"), _key("rate_card_id"))

# Their rows are the locks of subscriptions with such commitments; they say nothing.
committed_subscriptions = sa.Table("committed_subscriptions", metadata, _key("tenant_id"), _key("subscription_id"))

# What a price with such a commitment cost in a billing period before it. Its amount was made of what those from
# term_start on had used.
committed_costs = sa.Table(
    "committed_costs",
    metadata,
    _key("tenant_id"),
    _key("subscription_id"),
    _key("period_start", _INSTANT),
    _key("price_id"),
    _instant("term_start"),
    _number("used"),
    _number("cost"),
    postgresql_with=_UPDATED_IN_PLACE,
)

# Why a billing period could not be rated; gone as soon as it could.
rating_problems = sa.Table(
    "rating_problems",
    metadata,
    _key("tenant_id"),
    _key("subscription_id"),
    _key("period_start", _INSTANT),
    _text("reason"),
    _text("description"),
    _instant("failed_at"),
)

# Queue of billing periods to be rated, by marks that are only ever added and deleted. Their numbers, of one sequence,
# tell which watermark may pass. urgent: rate it also if it was set aside.
rating_marks = sa.Table(
    "rating_marks",
    metadata,
    _key("mark", sa.BigInteger()),
    _text("tenant_id"),
    _text("subscription_id"),
    _instant("period_start"),
    _instant("marked_at"),
    sa.Column("urgent", sa.Boolean, nullable=False),
    # All rows are dead soon: vacuum by their number, not by their share.
    postgresql_with={"autovacuum_vacuum_scale_factor": "0", "autovacuum_vacuum_threshold": "20000"},
)

# Billing periods that could not be rated, and when they are tried again (real time).
rating_retries = sa.Table(
    "rating_retries",
    metadata,
    _key("tenant_id"),
    _key("subscription_id"),
    _key("period_start", _INSTANT),
    sa.Column("attempts", sa.Integer, nullable=False),
    _instant("due_at"),
    sa.Index("rating_retries_by_time", "due_at"),
)

# Watermarks of ingest that have not been passed on; mark is null until the acknowledgement floor has reached them.
# Sequences begin again when a stream is recreated, hence its epoch.
received_watermarks = sa.Table(
    "received_watermarks",
    metadata,
    _key("stream_epoch", _INSTANT),
    _key("stream_sequence", sa.BigInteger()),
    _instant("watermark_at"),
    sa.Column("holds", JSONB, nullable=False),
    _whole("mark", nullable=True),
)

# Queue of charges to be published, and the watermarks that follow them.
charge_marks = mark_table(metadata, "charge_marks")
outbox_leases = lease_table(metadata)
outbox_watermarks = watermark_table(metadata)

# Messages that could not be handled, and the queue of those that wait for people.
parked = parked_tables(metadata)
