"""The role that looks after the log: work that may wait, and must not slow down recorders or questions."""

from __future__ import annotations

from libs.clock import system_clock
from libs.database import Database
from services.ingest.roles.process import Parts, Process
from services.ingest.store.missing_usage import PostgresMissingUsage
from services.ingest.store.replay_steps import PostgresReplayQueue
from services.ingest.usecases.find_missing_usage import FindMissingUsage
from services.ingest.usecases.run_replays import RunReplays


def maintain(process: Process, worker: Database) -> Parts:
    """Run what the log needs besides recording."""
    missing_usage = FindMissingUsage(PostgresMissingUsage(worker), system_clock, process.clocks.test_times)
    replays = RunReplays(PostgresReplayQueue(worker), system_clock, process.config.replay_percent / 100)
    return {"missing usage": missing_usage.run(process.stopping), "replays": replays.run(process.stopping)}
