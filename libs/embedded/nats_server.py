"""A nats-server of our own with JetStream, on loopback, with its data in a directory we are given."""

from __future__ import annotations

import http
import http.client
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from libs.embedded.binaries import nats_server
from libs.embedded.child import Child, StartHook
from libs.embedded.machine import free_port

_CONFIGURATION = """\
server_name: "{name}"
listen: "127.0.0.1:{port}"
http: "127.0.0.1:{monitor_port}"
max_payload: 1MB
max_connections: 512
write_deadline: "10s"
jetstream {{
  store_dir: "{store}"
  sync_interval: {sync_interval}
  max_file_store: 50GB
  max_memory_store: 256MB
}}
{further}
"""


class EmbeddedNats:
    """nats-server on 127.0.0.1; `start` after `stop` or `kill` uses the same ports and data.

    Durable means that a publish is acknowledged only when it is on disk; `durable=False` is for tests. A server of a
    cluster needs a `name` of its own; `configuration` are further lines for the server (`cluster {...}`).
    """

    def __init__(
        self,
        directory: Path,
        *,
        durable: bool = True,
        on_start: StartHook | None = None,
        name: str = "steelyard",
        configuration: str = "",
    ) -> None:
        self.directory = directory
        self._name = name
        self._configuration = configuration
        self.port = free_port()
        self.monitor_port = free_port()
        self._sync_interval = "always" if durable else '"2m"'
        self.child = Child("nats-server", directory / "nats.log", on_start=on_start)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """What clients connect to."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def monitor_url(self) -> str:
        """The HTTP monitoring endpoint (`/healthz`, `/jsz`)."""
        return f"http://127.0.0.1:{self.monitor_port}"

    def start(self, *, timeout_s: float = 60) -> Self:
        """Start the server and wait until JetStream has recovered its streams.

        :raises EmbeddedError: if it does not start; with the end of its log
        """
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        configuration = self.directory / "nats.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                port=self.port,
                monitor_port=self.monitor_port,
                store=self.directory / "jetstream",
                sync_interval=self._sync_interval,
                name=self._name,
                further=self._configuration,
            )
        )
        self.child.start([nats_server(), "-c", configuration], {"PATH": os.defpath}, self.directory)
        self.child.wait_until(self._healthy, timeout_s=timeout_s)
        return self

    def stop(self, *, grace_s: float = 15) -> None:
        """Shut down; nothing happens if the server does not run."""
        self.child.stop(grace_s=grace_s)

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL)."""
        self.child.kill()

    def _healthy(self) -> bool:
        # Not by urllib, which would ask the machine's HTTP proxy.
        connection = http.client.HTTPConnection("127.0.0.1", self.monitor_port, timeout=1)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
