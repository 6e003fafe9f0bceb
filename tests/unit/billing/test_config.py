from __future__ import annotations

import pytest

from libs.process import ConfigError
from services.billing.config import Config

COMPLETE = {
    "BILLING_DATABASE_URL": "postgresql://billing_api@db/billing",
    "BILLING_WORKER_DATABASE_URL": "postgresql://billing_worker@db/billing",
    "NATS_URL": "nats://a:4222,nats://b:4222",
    "GRPC_LISTEN": "127.0.0.1:5000",
    "RATING_TARGET": "rating:5000",
    "PAYMENTS_TARGET": "payments:5000",
    "STEELYARD_OPERATOR_KEY": "0123456789abcdef",
    "STEELYARD_INTERNAL_KEY": "fedcba9876543210",
}


def test_every_missing_setting_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_env({"NATS_REPLICAS": "0"}, "all")

    assert all(name in str(caught.value) for name in (*COMPLETE, "NATS_REPLICAS"))


def test_streams_have_as_many_replicas_as_those_of_the_other_services() -> None:
    assert Config.from_env(COMPLETE, "all").nats_replicas == 1
    assert Config.from_env({**COMPLETE, "NATS_REPLICAS": "3"}, "all").nats_replicas == 3
