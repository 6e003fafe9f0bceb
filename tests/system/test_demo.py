"""The main job as a user runs it: `steelyard demo`, four services as processes, bills computed by other means."""

from __future__ import annotations

import base64
import csv
import json
import logging
import os
import random
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from oteltest.sink import GrpcSink
from oteltest.sink.handler import AccumulatingHandler

from libs.cli.demo.workload import generated
from libs.embedded.machine import free_port
from tests.support.oracle import add_up, bill

PROJECT = Path(__file__).resolve().parents[2]
REAL_TRACE = Path(
    os.environ.get("STEELYARD_TRACE", PROJECT.parent / "shared" / "data" / "AzureLLMInferenceTrace_code.csv")
)
CUSTOMERS = 20


def run_demo(result: Path, *arguments: str, **environment: str) -> dict[str, Any]:
    """Run the command to its end and return its JSON; its output is shown if it fails."""
    command = [sys.executable, "-m", "libs.cli", "demo", "--json", str(result), *arguments]
    done = subprocess.run(
        command, cwd=PROJECT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    loaded: dict[str, Any] = json.loads(result.read_text())
    return loaded


def assert_bills_are(result: dict[str, Any], uses: dict[str, Any]) -> None:
    """Compare every line of every invoice, to the cent."""
    assert len(result["invoices"]) == CUSTOMERS
    for invoice in result["invoices"]:
        expected = bill(uses[invoice["customer"]])
        lines = {line["name"]: (line["quantity"], line["amount"]) for line in invoice["lines"]}
        assert lines == expected.lines, invoice["customer"]
        assert (invoice["total"], invoice["status"], invoice["currency"]) == (expected.total, "paid", "USD")
    numbers = sorted(invoice["number"] for invoice in result["invoices"])
    assert numbers == [f"INV-{n:06d}" for n in range(1, CUSTOMERS + 1)]


def assert_everything_adds_up(result: dict[str, Any], *, unique: int, rejected: int = 10, conflicts: int = 7) -> None:
    """Check the counts against what was sent, the ledger and the reconciliation."""
    resent = int(unique * 0.03)
    assert result["events"] == {
        "sent": unique + resent + rejected + conflicts,
        "accepted": unique + resent + conflicts,
        "recorded": unique,
        "duplicate": resent,
        "conflict": conflicts,
        "rejected": rejected,
    }
    assert result["ledger"]["balanced"] is True
    assert result["ledger"]["transactions"] == 2 * CUSTOMERS
    assert result["reconciliation"]["ok"] is True
    assert {check["service"] for check in result["reconciliation"]["checks"]} == {
        "ingest",
        "rating",
        "billing",
        "payments",
    }


GENERATED = 20_000
"""Events of the generated month here; the demo's own default is 100,000, which takes minutes on a loaded machine."""


class TestGeneratedMonth:
    def test_bills_equal_an_independent_computation(self, tmp_path: Path) -> None:
        result = run_demo(tmp_path / "result.json", "--events", str(GENERATED))
        workload = generated(customers=CUSTOMERS, events=GENERATED, seed=1)
        uses = add_up(
            (event.customer_id, int(event.properties["input_tokens"]), int(event.properties["output_tokens"]))
            for event in workload.originals
        )
        assert result["period"] == {"start": "2026-01-01T00:00:00+00:00", "end": "2026-02-01T00:00:00+00:00"}
        assert_everything_adds_up(result, unique=GENERATED)
        assert_bills_are(result, uses)
        assert len(result["trace_id"]) == 32  # Also where nobody collects traces.


@pytest.fixture(scope="module")
def trace_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if REAL_TRACE.exists():
        return REAL_TRACE
    warnings.warn(f"{REAL_TRACE} is absent: a made-up trace of the same form is replayed instead", stacklevel=1)
    return a_made_up_trace(tmp_path_factory.mktemp("trace") / "trace.csv")


@pytest.fixture(scope="module")
def sink() -> Iterator[tuple[int, AccumulatingHandler]]:
    """A receiver of OTLP that is not ours."""
    port, handler = free_port(), AccumulatingHandler()
    server = GrpcSink(handler, logging.getLogger("sink"), port=port)
    server.start()
    yield port, handler
    server.stop()


@pytest.fixture(scope="module")
def result(
    trace_file: Path, sink: tuple[int, AccumulatingHandler], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    return run_demo(
        tmp_path_factory.mktemp("demo") / "result.json",
        "--trace",
        str(trace_file),
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{sink[0]}",
        OTEL_EXPORTER_OTLP_INSECURE="true",
    )


class TestReplayedTrace:
    def test_bills_equal_an_independent_computation(self, result: dict[str, Any], trace_file: Path) -> None:
        with trace_file.open(newline="") as file:
            rows = list(csv.reader(file))[1:]
        uses = add_up((f"cust-{i % CUSTOMERS:02d}", int(row[1]), int(row[2])) for i, row in enumerate(rows))
        assert_everything_adds_up(result, unique=len(rows))
        assert_bills_are(result, uses)

    def test_one_trace_runs_from_the_sdk_call_to_the_payment_attempt(
        self, result: dict[str, Any], sink: tuple[int, AccumulatingHandler]
    ) -> None:
        spans = spans_of(json.loads(sink[1].telemetry.to_json()), result["trace_id"])
        by_id = {span["spanId"]: span for span in spans}
        roots = [span for span in spans if not span.get("parentSpanId")]
        orphans = [span["name"] for span in spans if span.get("parentSpanId", "") not in {"", *by_id}]
        assert [span["name"] for span in roots] == ["steelyard.send_events"]
        assert orphans == []
        services = {span["service"] for span in spans}
        assert services == {"steelyard-demo", "ingest", "rating", "billing", "payments"}
        assert "payments.attempt" in {span["name"] for span in spans}


def spans_of(telemetry: dict[str, Any], trace_id: str) -> list[dict[str, Any]]:
    """Return all spans of one trace, each with its service's name."""
    found: list[dict[str, Any]] = []
    for request in telemetry["trace_requests"]:
        for resource_spans in request["pbreq"]["resourceSpans"]:
            attributes = {a["key"]: a["value"].get("stringValue") for a in resource_spans["resource"]["attributes"]}
            for scope in resource_spans["scopeSpans"]:
                found.extend(
                    {**span, "service": attributes["service.name"]}
                    for span in scope["spans"]
                    if _hex(span["traceId"], 32) == trace_id
                )
    return found


def _hex(text: str, digits: int) -> str:
    return text.lower() if len(text) == digits else base64.b64decode(text).hex()


def a_made_up_trace(path: Path) -> Path:
    """Write a trace of the real one's form: CRLF, seven decimals, no newline at the end."""
    rng = random.Random(7)
    rows = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    for second in range(4000):
        at = f"2023-11-16 {18 + second // 3600}:{second // 60 % 60:02d}:{second % 60:02d}.{rng.randrange(10**7):07d}"
        rows.append(f"{at},{rng.randrange(1, 8000)},{rng.randrange(1, 600)}")
    path.write_bytes("\r\n".join(rows).encode())
    return path
