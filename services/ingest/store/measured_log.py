"""The log as quantities are told from it: effective events, with what meters measured in them at recording or, in a
backfill, later. Whoever tells a quantity from the log reads it through here."""

from __future__ import annotations

from services.ingest.store.effective_events import effective

_SAME = (
    "tenant_id, received_at, batch_id, ordinal, source, event_id, event_type, customer_id, event_time_ns, properties"
)


def measured_log(known_at: str = "") -> str:
    """For FROM, with an alias, in statements whose first argument is the tenant: a row per effective event, and one
    more per meter for which it was backfilled. A row of the second kind has of the properties only the dimensions of
    its meter; no two rows of an event have measured for one meter.

    :param known_at: an argument of the statement: the log as it was at this instant (real time), without events that
        were received and corrections that were made later. A backfill counts as if it had always been there.
    """
    counts = effective(known_at) + (f" AND received_at <= {known_at}" if known_at else "")
    # Both branches call their table `events`, so that a condition on events can be the same text in both.
    return f"""(
    SELECT {_SAME}, measured FROM events WHERE {counts}
    UNION ALL
    SELECT {_SAME}, jsonb_build_object(meter_id, value) AS measured FROM backfilled_events AS events WHERE {counts}
)"""  # noqa: S608 - put together from constants


MEASURED_LOG = measured_log()

MEASURED_IN_ALL = """event.measured || (
    SELECT coalesce(jsonb_object_agg(meter_id, value), jsonb_build_object()) FROM backfilled_events AS later
    WHERE (later.tenant_id, later.received_at, later.batch_id, later.ordinal)
        = (event.tenant_id, event.received_at, event.batch_id, event.ordinal)
)"""
"""What all meters measured in a row of `events AS event`, effective or not."""
