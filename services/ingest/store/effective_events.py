"""Which recorded events count: those without a correction."""

from __future__ import annotations

EFFECTIVE = """
    NOT EXISTS (SELECT FROM corrections AS correction WHERE correction.tenant_id = events.tenant_id
        AND correction.source = events.source AND correction.event_id = events.event_id)
"""
"""A condition on `events`; whatever tells a quantity from the log has it. Corrections are few: this is an anti join
with a small table."""
