"""Settings of payments, from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from libs.process import Environment
from services.payments.domain.retries import DEFAULT_MAX_CARD_TRIES

Role = Literal["api", "work", "all"]
ROLES: tuple[Role, ...] = ("api", "work", "all")


@dataclass(frozen=True, slots=True)
class Config:
    """Everything a payments process needs to know.

    Roles: `api` serves gRPC, `work` consumes, collects and relays, `all` does both. `max_card_tries`: of a card, in 30
    days of the tenant's clock, that do not capture.
    """

    role: Role
    database_url: str
    worker_database_url: str
    nats_url: str
    nats_replicas: int
    grpc_listen: str
    billing_target: str
    operator_key: str
    internal_key: str
    reflection: bool
    poll_s: float
    max_card_tries: int
    drain_s: float

    @property
    def serves(self) -> bool:
        return self.role != "work"

    @property
    def works(self) -> bool:
        return self.role != "api"

    @classmethod
    def from_env(cls, values: Mapping[str, str], role: str) -> Config:
        """Read the environment.

        :raises ConfigError: naming all that is missing or wrong
        """
        environment = Environment(values)
        config = cls(
            role=cast(Role, role),
            database_url=environment.url("PAYMENTS_DATABASE_URL", "postgresql", "postgres"),
            worker_database_url=environment.url("PAYMENTS_WORKER_DATABASE_URL", "postgresql", "postgres"),
            nats_url=environment.text("NATS_URL"),
            nats_replicas=environment.integer("NATS_REPLICAS", 1, minimum=1),
            grpc_listen=environment.text("GRPC_LISTEN"),
            billing_target=environment.text("BILLING_TARGET"),
            operator_key=environment.text("STEELYARD_OPERATOR_KEY"),
            internal_key=environment.text("STEELYARD_INTERNAL_KEY"),
            reflection=environment.flag("STEELYARD_REFLECTION"),
            poll_s=environment.duration_s("PAYMENTS_POLL", 0.1),
            max_card_tries=environment.integer("PAYMENTS_MAX_CARD_TRIES", DEFAULT_MAX_CARD_TRIES, minimum=1),
            drain_s=environment.duration_s("DRAIN", 1.0),
        )
        environment.check()
        return config


def admin_url(values: Mapping[str, str]) -> str:
    """Return the owner's login, which only `migrate` needs.

    :raises ConfigError: if PAYMENTS_ADMIN_DATABASE_URL is missing or wrong
    """
    environment = Environment(values)
    url = environment.url("PAYMENTS_ADMIN_DATABASE_URL", "postgresql", "postgres")
    environment.check()
    return url
