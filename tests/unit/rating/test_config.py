from __future__ import annotations

import pytest

from libs.process import ConfigError
from services.rating.config import Config, Role, admin_url

COMPLETE = {
    "RATING_DATABASE_URL": "postgresql://rating_api@db/rating",
    "RATING_WORKER_DATABASE_URL": "postgresql://rating_worker@db/rating",
    "NATS_URL": "nats://a:4222,nats://b:4222",
    "GRPC_LISTEN": "127.0.0.1:5000",
    "STEELYARD_INTERNAL_KEY": "0123456789abcdef",
    "INGEST_QUERY_TARGET": "dns:///ingest-query:5000",
    "BILLING_TARGET": "dns:///billing-api:5000",
}


def test_every_missing_setting_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_env({"RATING_API_POOL_SIZE": "0"}, "all")

    assert all(name in str(caught.value) for name in (*COMPLETE, "RATING_API_POOL_SIZE"))


@pytest.mark.parametrize(
    ("role", "serves", "works"), [("api", True, False), ("work", False, True), ("all", True, True)]
)
def test_roles(role: Role, serves: bool, works: bool) -> None:
    config = Config.from_env(COMPLETE, role)

    assert (config.serves, config.works) == (serves, works)
    assert (config.operator_key, config.reflection, config.nats_replicas) == (None, False, 1)


def test_migrations_need_the_owners_url_only() -> None:
    url = "postgresql://rating_owner@db/rating"

    assert admin_url({"RATING_ADMIN_DATABASE_URL": url}) == url
    with pytest.raises(ConfigError, match="RATING_ADMIN_DATABASE_URL"):
        admin_url(COMPLETE)
