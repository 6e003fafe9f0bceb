"""Fixtures that give tests real servers, started once per test process. A server that does not start is a failure."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from libs.embedded.machine import temporary_root
from libs.embedded.nats_server import EmbeddedNats
from libs.embedded.postgres import EmbeddedPostgres
from tests.support.servers import DatabaseFactory

# How long an example takes says nothing on a loaded machine.
settings.register_profile("steelyard", deadline=None)
settings.load_profile("steelyard")


@pytest.fixture(scope="session")
def server_root() -> Iterator[Path]:
    """A directory that the servers' own account can reach (pytest's tmp_path cannot be, when we are root)."""
    root = temporary_root()
    yield root
    shutil.rmtree(root)


@pytest.fixture(scope="session")
def postgres(server_root: Path) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL server, without fsync."""
    with EmbeddedPostgres(server_root / "postgres", durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def make_database(postgres: EmbeddedPostgres) -> DatabaseFactory:
    """Makes fresh databases: `await make_database("ingest", migrate)`; see DatabaseFactory."""
    return DatabaseFactory(postgres)


@pytest.fixture(scope="session")
def nats_url(server_root: Path) -> Iterator[str]:
    """A nats-server shared by all tests of this process, without fsync: use streams of your own."""
    with EmbeddedNats(server_root / "nats", durable=False) as server:
        yield server.url


@pytest.fixture
def own_nats(server_root: Path) -> Iterator[EmbeddedNats]:
    """A nats-server with empty JetStream for one test alone, which may stop and kill it. It is durable."""
    directory = Path(tempfile.mkdtemp(prefix="nats-", dir=server_root))
    with EmbeddedNats(directory) as server:
        yield server
    shutil.rmtree(directory)
