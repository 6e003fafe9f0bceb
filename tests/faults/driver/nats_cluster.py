"""Three nats-servers as one cluster, on this machine."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from libs.embedded.machine import free_port
from libs.embedded.nats_server import EmbeddedNats

_CLUSTER = """\
cluster {{
  name: "faults"
  listen: "127.0.0.1:{port}"
  routes: [{routes}]
}}
"""


class NatsCluster:
    """Servers `nats-1` to `nats-3`; streams have three replicas, and any two servers go on without the third."""

    def __init__(self, directory: Path) -> None:
        ports = [free_port() for _ in range(3)]
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
        self.servers = {
            f"nats-{number}": EmbeddedNats(
                directory / f"nats-{number}",
                name=f"nats-{number}",
                configuration=_CLUSTER.format(port=port, routes=routes),
            )
            for number, port in enumerate(ports, 1)
        }

    @property
    def url(self) -> str:
        """All of them, for clients."""
        return ",".join(server.url for server in self.servers.values())

    def __enter__(self) -> Self:
        # A server is healthy only once it has found the others.
        with ThreadPoolExecutor(len(self.servers)) as together:
            for started in [together.submit(server.start) for server in self.servers.values()]:
                started.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self.servers.values():
            server.stop()
