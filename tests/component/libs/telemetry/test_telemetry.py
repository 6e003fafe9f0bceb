"""A process with telemetry, seen from outside: its log lines, its Prometheus endpoint, what a collector receives."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from oteltest.sink import GrpcSink
from oteltest.sink.handler import AccumulatingHandler

SAMPLED = 1
PROGRAM = "tests.component.libs.telemetry.program"


class Program:
    """The running program; `lines` are its log entries until it was ready, and after `stop` all."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", PROGRAM],
            env={**inherited, **environment},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[dict[str, Any]] = []
        while not self.lines or self.lines[-1]["message"] != "ready":
            self._read_line()

    def stop(self) -> float:
        """End the program and return the seconds that it took."""
        started = time.monotonic()
        _, rest = self._process.communicate("\n", timeout=30)
        took_s = time.monotonic() - started
        self.lines += [json.loads(line) for line in rest.splitlines()]
        assert self._process.returncode == 0
        return took_s

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def ready(self) -> dict[str, Any]:
        return next(line for line in self.lines if line["message"] == "ready")

    def _read_line(self) -> None:
        assert self._process.stderr is not None
        line = self._process.stderr.readline()
        assert line, "the program ended"
        self.lines.append(json.loads(line))


@contextmanager
def running(**environment: str) -> Iterator[Program]:
    program = Program(environment)
    try:
        yield program
    finally:
        program.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        assert isinstance(port, int)
        return port


@contextmanager
def collector() -> Iterator[tuple[str, AccumulatingHandler]]:
    handler, port = AccumulatingHandler(), free_port()
    sink = GrpcSink(handler, logging.getLogger("sink"), port=port)
    sink.start()
    try:
        yield f"http://127.0.0.1:{port}", handler
    finally:
        sink.stop()


def received(handler: AccumulatingHandler) -> dict[str, Any]:
    telemetry = json.loads(handler.telemetry.to_json())
    assert isinstance(telemetry, dict)
    return telemetry


def attributes(resource: dict[str, Any]) -> dict[str, str]:
    return {a["key"]: a["value"].get("stringValue", "") for a in resource["attributes"]}


class TestWithoutCollector:
    def test_trace_ids_are_made_and_nothing_is_connected(self) -> None:
        with running() as program:
            program.stop()

        working = next(line for line in program.lines if line["message"] == "working")
        version, trace_id, span_id, flags = working["headers"]["traceparent"].split("-")
        assert (version, trace_id, span_id) == ("00", working["trace_id"], working["span_id"])
        assert not int(flags, 16) & SAMPLED
        assert (working["service"], working["instance"]) == ("billing", "billing-1")
        assert (program.ready["threads"], program.ready["sockets"], program.ready["port"]) == (["MainThread"], 0, None)
        assert [line["message"] for line in program.lines] == ["working", "ready", "done"]

    def test_the_standard_sampler_variable_is_honoured(self) -> None:
        with running(OTEL_TRACES_SAMPLER="always_on") as program:
            program.stop()

        working = next(line for line in program.lines if line["message"] == "working")
        assert int(working["headers"]["traceparent"][-2:], 16) & SAMPLED

    @pytest.mark.parametrize(("level", "first"), [("DEBUG", "working"), ("warning", "ready")])
    def test_log_level(self, level: str, first: str) -> None:
        with running(LOG_LEVEL=level) as program:
            program.stop()

        assert program.lines[0]["message"] == first
        assert ("in detail" in [line["message"] for line in program.lines]) is (level == "DEBUG")


class TestPrometheus:
    def test_serves_metrics_with_exemplars(self) -> None:
        with running(METRICS_LISTEN="127.0.0.1:0", OTEL_TRACES_SAMPLER="always_on") as program:
            request = urllib.request.Request(
                f"http://127.0.0.1:{program.ready['port']}/metrics", headers={"Accept": "application/openmetrics-text"}
            )
            with urllib.request.urlopen(request, timeout=5) as response:
                text = response.read().decode()
            program.stop()

        working = next(line for line in program.lines if line["message"] == "working")
        assert "steelyard_test_works_total 3.0" in text
        assert f'trace_id="{working["trace_id"]}"' in text
        assert "process_resident_memory_bytes" in text

    @pytest.mark.parametrize("listen", ["9464", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:http"])
    def test_a_wrong_address_is_named(self, listen: str) -> None:
        environment = {**os.environ, "METRICS_LISTEN": listen}

        ended = subprocess.run(
            [sys.executable, "-m", PROGRAM], env=environment, capture_output=True, text=True, timeout=30, check=False
        )

        assert ended.returncode != 0
        assert "METRICS_LISTEN must be host:port" in ended.stderr


class TestWithCollector:
    def test_spans_and_metrics_arrive_with_the_resource(self) -> None:
        with (
            collector() as (endpoint, handler),
            running(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_RESOURCE_ATTRIBUTES="k8s.pod.name=p1") as program,
        ):
            program.stop()
            telemetry = received(handler)

        (spans,) = telemetry["trace_requests"][0]["pbreq"]["resourceSpans"]
        resource = attributes(spans["resource"])
        expected = {
            "service.namespace": "steelyard",
            "service.name": "billing",
            "service.instance.id": "billing-1",
            "k8s.pod.name": "p1",
        }
        assert expected.items() <= resource.items()
        assert [span["name"] for span in spans["scopeSpans"][0]["spans"]] == ["work"]
        (metrics,) = telemetry["metric_requests"][-1]["pbreq"]["resourceMetrics"]
        found = {m["name"]: m for scope in metrics["scopeMetrics"] for m in scope["metrics"]}
        assert found["steelyard.test.works"]["sum"]["dataPoints"][0]["asDouble"] == 3
        (point,) = found["steelyard.test.duration"]["histogram"]["dataPoints"]
        assert (int(point["count"]), len(point["exemplars"])) == (1, 1)
        assert "min" not in point

    def test_metrics_arrive_at_the_interval(self) -> None:
        with (
            collector() as (endpoint, handler),
            running(OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=endpoint, OTEL_METRIC_EXPORT_INTERVAL="50") as program,
        ):
            deadline = time.monotonic() + 10
            while len(handler.telemetry.metric_requests) < 3:
                assert time.monotonic() < deadline, "no metrics arrived"
                time.sleep(0.02)
            program.stop()
            telemetry = received(handler)

        assert telemetry["trace_requests"] == []  # Only metrics have an endpoint.

    @pytest.mark.parametrize("silent", [True, False])
    def test_a_missing_collector_does_not_hold_up_the_end(self, silent: bool) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            if silent:
                listener.listen()  # Accepts connections and never answers.
            with running(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{listener.getsockname()[1]}") as program:
                took_s = program.stop()

        assert program.lines[-1]["message"] == "done"
        assert took_s < 8
