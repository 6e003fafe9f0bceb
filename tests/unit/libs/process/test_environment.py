from __future__ import annotations

import pytest

from libs.process import ConfigError, Environment


class TestEnvironment:
    def test_reads_each_kind_of_setting(self) -> None:
        environment = Environment(
            {
                "NAME": " billing ",
                "SIZE": "12",
                "GRACE": "250ms",
                "WAIT": "5m",
                "TEST_CLOCKS": "1",
                "DATABASE_URL": "postgresql://u:secret@db/billing",
                "SOCKET_URL": "postgresql:///billing?host=/run/pg",
                "NATS_URL": "nats://a:4222,nats://b:4222",
            }
        )

        assert environment.text("NAME") == "billing"
        assert environment.integer("SIZE") == 12
        assert environment.duration_s("GRACE") == 0.25
        assert environment.duration_s("WAIT") == 300.0
        assert environment.flag("TEST_CLOCKS") is True
        assert environment.url("DATABASE_URL", "postgresql") == "postgresql://u:secret@db/billing"
        assert environment.url("SOCKET_URL", "postgresql") == "postgresql:///billing?host=/run/pg"
        assert environment.url("NATS_URL", "nats", "tls") == "nats://a:4222,nats://b:4222"
        environment.check()

    def test_takes_defaults_for_what_is_absent_or_empty(self) -> None:
        environment = Environment({"NAME": "", "SIZE": "  "})

        assert environment.text("NAME", "x") == "x"
        assert environment.text("METRICS_LISTEN", "") == ""
        assert environment.integer("SIZE", 7) == 7
        assert environment.duration_s("GRACE", 1.5) == 1.5
        assert environment.flag("TEST_CLOCKS") is False
        assert environment.flag("REFLECTION", True) is True
        assert environment.url("NATS_URL", "nats", default="nats://127.0.0.1:4222") == "nats://127.0.0.1:4222"
        environment.check()

    def test_names_every_fault_in_one_error(self) -> None:
        environment = Environment({"SIZE": "many", "POOL": "0", "GRACE": "soon", "ON": "maybe", "URL": "db:5432"})
        environment.text("NAME")
        environment.integer("SIZE")
        environment.integer("POOL", minimum=1)
        environment.duration_s("GRACE")
        environment.flag("ON")
        environment.url("URL", "postgresql", "postgres")
        environment.url("ABSENT_URL")

        with pytest.raises(ConfigError) as raised:
            environment.check()

        assert str(raised.value).split("; ") == [
            "NAME is missing",
            "SIZE must be a whole number of at least 0",
            "POOL must be a whole number of at least 1",
            "GRACE must be a duration such as 30s or 250ms",
            "ON must be 1 or 0",
            "URL must be a URL such as postgresql://host:port",
            "ABSENT_URL is missing",
        ]

    def test_never_repeats_a_value_that_may_be_secret(self) -> None:
        environment = Environment({"DATABASE_URL": "http://u:hunter2@db"})
        environment.url("DATABASE_URL", "postgresql")

        with pytest.raises(ConfigError) as raised:
            environment.check()

        assert "hunter2" not in str(raised.value)
