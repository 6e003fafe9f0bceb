"""JSON log lines."""

from __future__ import annotations

import json
import logging
import secrets
import sys

import pytest
from opentelemetry import trace

from libs.rpc import new_api_key
from libs.telemetry import JsonFormatter, redacted

FORMATTER = JsonFormatter("billing", "billing-1")
SPAN = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=False))


def logged(message: str, *arguments: object, **fields: object) -> dict[str, object]:
    record = logging.getLogger("test").makeRecord(
        "services.billing", logging.WARNING, "f.py", 1, message, arguments, None, extra=fields
    )
    record.created = 1_767_225_600.25
    line = FORMATTER.format(record)
    assert "\n" not in line
    entry = json.loads(line)
    assert isinstance(entry, dict)
    return entry


class TestJsonFormatter:
    def test_writes_the_fields(self) -> None:
        assert logged("issued %s for %d", "inv_1", 7, invoice_id="inv_1", lines=3) == {
            "timestamp": "2026-01-01T00:00:00.250000+00:00",
            "level": "WARNING",
            "logger": "services.billing",
            "message": "issued inv_1 for 7",
            "service": "billing",
            "instance": "billing-1",
            "invoice_id": "inv_1",
            "lines": 3,
        }

    def test_names_the_trace_it_was_written_in(self) -> None:
        with trace.use_span(SPAN):
            entry = logged("x")

        assert (entry["trace_id"], entry["span_id"]) == ("abc".zfill(32), "def".zfill(16))

    def test_fields_cannot_pose_as_ours(self) -> None:
        entry = logged("x", service="payments", level="DEBUG")

        assert (entry["service"], entry["level"]) == ("billing", "WARNING")

    def test_writes_an_exception_as_text(self) -> None:
        try:
            raise KeyError("missing")
        except KeyError:
            record = logging.getLogger("test").makeRecord("l", logging.ERROR, "f.py", 1, "x", (), sys.exc_info())

        entry = json.loads(FORMATTER.format(record))

        assert entry["exception"].startswith("Traceback")
        assert entry["exception"].endswith("KeyError: 'missing'")

    def test_writes_values_that_json_does_not_know(self) -> None:
        assert logged("x", where=pytest, text="\u00fc\n\ud800")["text"] == "\u00fc\n\ud800"

    def test_redacts_everywhere(self) -> None:
        key = new_api_key(secrets.token_bytes)

        entry = logged(
            "key %s", key.text, field=key.text, nested={"headers": [("authorization", f"Bearer {key.text}")]}
        )

        assert key.text.split("_")[2] not in json.dumps(entry)
        assert entry["message"] == f"key sy_{key.key_id}_***"


class TestRedacted:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("authorization: Bearer swordfish-1.2", "authorization: Bearer ***"),
            ("('authorization', 'bearer swordfish'), (", "('authorization', 'bearer ***'), ("),
            ("postgresql://billing:s3cret@db:5432/billing", "postgresql://billing:***@db:5432/billing"),
            ("nats://:token@nats:4222", "nats://:***@nats:4222"),
            ("sk_live_abc123 and rk_test_abc and whsec_xyz", "sk_live_*** and rk_test_*** and whsec_***"),
            ("http://host:80/a@b", "http://host:80/a@b"),
            ("sync_interval: always", "sync_interval: always"),
            ("the bearer of bad news", "the bearer *** bad news"),  # Better too much than too little.
        ],
    )
    def test_hides_secrets_only(self, text: str, shown: str) -> None:
        assert redacted(text) == shown
