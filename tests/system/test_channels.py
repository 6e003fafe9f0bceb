"""Many channels to one server, made and closed at the same moment, over and over (ADR 0032)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHURN = """
import threading, asyncio, sys
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from {module} import _OPTIONS as options

CHANNELS, ROUNDS = 8, 3_000

def serve(started):
    async def run():
        server, servicer = grpc.aio.server(), health.aio.HealthServicer()
        await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        started.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        ready.set()
        await server.wait_for_termination()
    asyncio.run(run())

ports, ready, barrier, answers = [], threading.Event(), threading.Barrier(CHANNELS), []
threading.Thread(target=serve, args=(ports,), daemon=True).start()
ready.wait(30)

def connect():
    for _ in range(ROUNDS):
        barrier.wait()
        with grpc.insecure_channel(f"127.0.0.1:{{ports[0]}}", options=list(options)) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            answers.append(check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=30).status)
            barrier.wait()

threads = [threading.Thread(target=connect) for _ in range(CHANNELS)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(answers))
sys.stdout.flush()
import os; os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("module", ["libs.rpc.channels", "steelyard.channels", "steelyard.spool.transport"])
def test_that_come_and_go_together_end_no_process(module: str) -> None:
    path = f"{ROOT}:{ROOT / 'libs' / 'sdk'}"
    ended = subprocess.run(
        [sys.executable, "-c", CHURN.format(module=module)],
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr[-2_000:]
    assert ended.stdout.split() == ["24000"]
