"""Settings of ingest, from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from libs.process import Environment

Role = Literal["accept", "record", "query", "maintain", "all"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class Config:
    """Everything an ingest process needs to know.

    Roles: `accept` takes usage and needs no database; `record` consumes, keeps the watermark and relays; `query`
    answers questions and owns meters; `maintain` looks after the log; `all` does everything in one process.
    """

    role: Role
    database_url: str
    worker_database_url: str
    nats_url: str
    nats_replicas: int
    grpc_listen: str
    operator_key: str | None
    internal_key: str
    reflection: bool
    recorders: int
    max_pending_bytes: int
    max_meters: int
    purge_margin_s: float
    replay_percent: int
    seal_allowance_s: float
    drain_s: float

    @classmethod
    def from_env(cls, values: Mapping[str, str], role: Role) -> Config:
        """Read the environment.

        :raises libs.process.ConfigError: naming everything that is missing or wrong
        """
        environment = Environment(values)
        without_database = role == "accept"
        config = cls(
            role=role,
            database_url="" if without_database else environment.url("INGEST_DATABASE_URL", "postgresql", "postgres"),
            worker_database_url=""
            if without_database
            else environment.url("INGEST_WORKER_DATABASE_URL", "postgresql", "postgres"),
            nats_url=environment.text("NATS_URL"),
            nats_replicas=environment.integer("NATS_REPLICAS", 1, minimum=1),
            grpc_listen=environment.text("GRPC_LISTEN"),
            operator_key=environment.text("STEELYARD_OPERATOR_KEY", "") or None,
            internal_key=environment.text("STEELYARD_INTERNAL_KEY"),
            reflection=environment.flag("STEELYARD_REFLECTION"),
            recorders=environment.integer("INGEST_RECORDERS", 2, minimum=1),
            max_pending_bytes=environment.integer("INGEST_MAX_PENDING_BYTES", 64 << 20, minimum=1 << 20),
            max_meters=environment.integer("INGEST_MAX_METERS", 500, minimum=1),
            purge_margin_s=environment.duration_s("INGEST_PURGE_MARGIN", 900.0),
            replay_percent=environment.integer("INGEST_REPLAY_PERCENT", 25, minimum=1, maximum=100),
            seal_allowance_s=environment.duration_s("INGEST_SEAL_ALLOWANCE", 3600.0),
            drain_s=environment.duration_s("DRAIN", 1.0),
        )
        environment.check()
        return config

    def plays(self, role: Role) -> bool:
        """Whether this process plays the role, alone or among others."""
        return self.role in (role, "all")


def admin_url(values: Mapping[str, str]) -> str:
    """The login of the database's owner, which only migrations need.

    :raises libs.process.ConfigError: if INGEST_ADMIN_DATABASE_URL is missing or wrong
    """
    environment = Environment(values)
    url = environment.url("INGEST_ADMIN_DATABASE_URL", "postgresql", "postgres")
    environment.check()
    return url
