"""Stands in for a service where processes are tested: migrates by a line in a table, then answers health checks.

Copied as `services/<service>/__main__.py` into a project of the test's own; so it imports nothing of ours.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys


async def migrate(url: str) -> None:
    import asyncpg  # Each role imports what it needs: the tests start many of these.

    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE IF NOT EXISTS migrated (at timestamptz DEFAULT now())")
    await connection.execute("INSERT INTO migrated DEFAULT VALUES")
    await connection.close()


def serve() -> None:
    from concurrent.futures import ThreadPoolExecutor

    import grpc
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc

    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    if server.add_insecure_port(os.environ["GRPC_LISTEN"]) == 0:
        raise SystemExit(f"cannot listen on {os.environ['GRPC_LISTEN']}")
    server.start()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    signal.sigwait({signal.SIGTERM})
    print("stopped in good order", flush=True)
    server.stop(grace=1).wait()


signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
service = __package__.rpartition(".")[2].upper()
print(sys.argv[1:], os.environ["NATS_URL"], os.environ[f"{service}_WORKER_DATABASE_URL"], flush=True)
if sys.argv[1] == "migrate":
    asyncio.run(migrate(os.environ[f"{service}_ADMIN_DATABASE_URL"]))
else:
    serve()
