"""The role that looks after the log: work that may wait, and must not slow down recorders or questions."""

from __future__ import annotations

from libs.database import Database
from services.ingest.roles.process import Parts, Process


def maintain(process: Process, worker: Database) -> Parts:
    """Run what the log needs besides recording."""
    return {}
