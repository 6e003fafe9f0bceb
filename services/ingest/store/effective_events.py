"""Which recorded events count: those without a correction."""

from __future__ import annotations


def effective(known_at: str = "") -> str:
    """A condition on `events`, in statements whose first argument is the tenant. Whatever tells a quantity from the log
    has it, by reading `MEASURED_LOG`.

    The first half is answered once. The second one is a look into a hash table or an index: as the OR keeps it from
    becoming a join, it cannot be planned as a loop over corrections that were made since the statistics were.

    :param known_at: an argument of the statement: corrections that were made after this instant do not count
    """
    by_then = f"AND correction.corrected_at <= {known_at}" if known_at else ""
    return f"""(
    NOT EXISTS (SELECT FROM corrections WHERE tenant_id = $1)
    OR NOT EXISTS (SELECT FROM corrections AS correction WHERE correction.tenant_id = events.tenant_id
        AND correction.source = events.source AND correction.event_id = events.event_id {by_then})
)"""  # noqa: S608 - put together from constants


EFFECTIVE = effective()
