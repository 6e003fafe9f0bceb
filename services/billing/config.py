"""Settings of billing, from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from libs.process import Environment

Role = Literal["api", "work", "all"]
ROLES: tuple[Role, ...] = ("api", "work", "all")


@dataclass(frozen=True, slots=True)
class Config:
    """Everything a billing process needs to know.

    Roles: `api` serves gRPC, `work` consumes, closes periods and relays, `all` does both. Both need both logins: a
    request publishes its directory entries itself, which is a worker's right.
    """

    role: Role
    database_url: str
    worker_database_url: str
    nats_url: str
    nats_replicas: int
    grpc_listen: str
    rating_target: str
    payments_target: str
    operator_key: str
    internal_key: str
    test_clocks: bool
    reflection: bool
    poll_s: float
    drain_s: float

    @classmethod
    def from_env(cls, values: Mapping[str, str], role: str) -> Config:
        """Read the environment.

        :raises ConfigError: naming all that is missing or wrong
        """
        environment = Environment(values)
        config = cls(
            role=cast(Role, role),
            database_url=environment.url("BILLING_DATABASE_URL", "postgresql"),
            worker_database_url=environment.url("BILLING_WORKER_DATABASE_URL", "postgresql"),
            nats_url=environment.text("NATS_URL"),
            nats_replicas=environment.integer("NATS_REPLICAS", 1, minimum=1),
            grpc_listen=environment.text("GRPC_LISTEN"),
            rating_target=environment.text("RATING_TARGET"),
            payments_target=environment.text("PAYMENTS_TARGET"),
            operator_key=environment.text("STEELYARD_OPERATOR_KEY"),
            internal_key=environment.text("STEELYARD_INTERNAL_KEY"),
            test_clocks=environment.flag("STEELYARD_TEST_CLOCKS"),
            reflection=environment.flag("STEELYARD_REFLECTION"),
            poll_s=environment.duration_s("BILLING_POLL", 0.1),
            drain_s=environment.duration_s("DRAIN", 1.0),
        )
        environment.check()
        return config


def admin_url(values: Mapping[str, str]) -> str:
    """Return the owner's login, which only `migrate` needs.

    :raises ConfigError: if BILLING_ADMIN_DATABASE_URL is missing or wrong
    """
    environment = Environment(values)
    url = environment.url("BILLING_ADMIN_DATABASE_URL", "postgresql")
    environment.check()
    return url
