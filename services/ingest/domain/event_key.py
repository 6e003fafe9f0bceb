"""How an event is named within its tenant."""

from __future__ import annotations

EventKey = tuple[str, str]
"""Source and event id."""
