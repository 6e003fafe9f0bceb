"""Settings of the rating service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self, get_args

from libs.process import Environment

Role = Literal["api", "work", "all"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class Config:
    """`api` serves RPCs; `work` consumes, rates and publishes; `all` does both in one process."""

    role: Role
    database_url: str
    worker_database_url: str
    nats_url: str
    nats_replicas: int
    grpc_listen: str
    operator_key: str | None
    internal_key: str
    ingest_query_target: str
    billing_target: str
    reflection: bool
    api_pool_size: int
    worker_pool_size: int

    @classmethod
    def from_env(cls, values: Mapping[str, str], role: Role) -> Self:
        """Read the environment.

        :raises libs.process.ConfigError: naming everything that is missing or wrong
        """
        environment = Environment(values)
        config = cls(
            role=role,
            database_url=environment.url("RATING_DATABASE_URL", "postgresql", "postgres"),
            worker_database_url=environment.url("RATING_WORKER_DATABASE_URL", "postgresql", "postgres"),
            nats_url=environment.text("NATS_URL"),
            nats_replicas=environment.integer("NATS_REPLICAS", 1, minimum=1),
            grpc_listen=environment.text("GRPC_LISTEN"),
            operator_key=environment.text("STEELYARD_OPERATOR_KEY", "") or None,
            internal_key=environment.text("STEELYARD_INTERNAL_KEY"),
            ingest_query_target=environment.text("INGEST_QUERY_TARGET"),
            billing_target=environment.text("BILLING_TARGET"),
            reflection=environment.flag("STEELYARD_REFLECTION"),
            api_pool_size=environment.integer("RATING_API_POOL_SIZE", 10, minimum=1),
            worker_pool_size=environment.integer("RATING_WORKER_POOL_SIZE", 10, minimum=1),
        )
        environment.check()
        return config

    @property
    def serves(self) -> bool:
        return self.role != "work"

    @property
    def works(self) -> bool:
        return self.role != "api"


def admin_url(values: Mapping[str, str]) -> str:
    """Return the URL of the database's owner, for migrations.

    :raises libs.process.ConfigError: if it is missing
    """
    environment = Environment(values)
    url = environment.url("RATING_ADMIN_DATABASE_URL", "postgresql", "postgres")
    environment.check()
    return url
