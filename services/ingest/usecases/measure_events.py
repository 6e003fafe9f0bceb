"""Measure events without taking them."""

from __future__ import annotations

from collections.abc import Sequence

from services.ingest.domain.door import door_problems, time_problems
from services.ingest.domain.event_measurement import EventMeasurement, measurements_of
from services.ingest.domain.measuring import measure
from services.ingest.domain.usage_batch import EventMessage, UsageColumns
from services.ingest.usecases.ports import TenantRules


class MeasureEvents:
    """Judges and measures events by the rules and meters of acceptors, from the directory alone. Stores nothing."""

    def __init__(self, tenants: TenantRules) -> None:
        self._tenants = tenants

    def __call__(self, tenant_id: str, events: Sequence[EventMessage]) -> list[EventMeasurement]:
        """Return what would be measured in each event, or why it would be rejected, in order."""
        rules = self._tenants.rules(tenant_id)
        columns = UsageColumns.from_messages(events)
        problems = {**time_problems(columns), **door_problems(columns, rules.policy, rules.tenant_now)}
        measurement = measure(columns, rules.meters, problems)
        return measurements_of(columns, measurement, problems | measurement.problems)
