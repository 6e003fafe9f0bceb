"""What spools report through OpenTelemetry.

In a process of its own: instruments belong to the first provider that a process sets.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[5]
PROGRAM = """
import json, sys
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))

from steelyard.spool import Spool, SpoolOptions, WhenFull

path = sys.argv[1]
spool = Spool(path, options=SpoolOptions(max_bytes=65536, when_full=WhenFull.DROP_OLDEST, batch_events=1))
for _ in range(100):
    spool.record("call", "c1", {"text": "x" * 1000}, durable=True)
stats = spool.stats()
found = {}
for metric in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics:
    for point in metric.data.data_points:
        assert point.attributes["spool"] == path
        found[f"{metric.name} {point.attributes.get('state', '')}".strip()] = point.value
spool.close()
left = [point for scopes in (reader.get_metrics_data().resource_metrics or []) for scope in scopes.scope_metrics
        for metric in scope.metrics if "oldest" in metric.name for point in metric.data.data_points]
print(json.dumps([found, stats.pending.events, stats.pending.bytes, stats.dropped, len(left)]))
"""


def test_depth_age_and_what_became_of_events(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "usage.spool")],
        env={"PYTHONPATH": str(ROOT / "libs" / "sdk")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found, events, size, dropped, left = json.loads(done.stdout)
    assert found["steelyard.spool.events pending"] == events
    assert found["steelyard.spool.size pending"] == size
    assert found["steelyard.spool.dropped"] == dropped == 100 - events
    assert found["steelyard.spool.oldest_age"] > 0
    assert {"sent", "parked", "dead"} <= {name.rpartition(" ")[2] for name in found}
    assert left == 0  # A spool that is closed has no depth.
