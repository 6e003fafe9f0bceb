"""Stack: the life of a whole system, with stand-ins for the services."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from libs.embedded.databases import SERVICES
from libs.embedded.errors import EmbeddedError
from libs.embedded.machine import temporary_root
from libs.embedded.service_processes import PROCESS_PLANS, PROJECT, Launch, ProcessPlan, launch_service
from libs.embedded.stack import Stack, running_endpoints, stop_running
from libs.embedded.state import StackState

PROCESSES = 2 + len(PROCESS_PLANS)
"""NATS, PostgreSQL and the services."""

OWNER = """
import sys, time
from pathlib import Path
from libs.embedded.stack import Stack
with Stack(Path(sys.argv[1]) / "data", durable=False, project=Path(sys.argv[1])):
    print("started", flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def only_our_own_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.endswith("DATABASE_URL") or name == "NATS_URL"]:
        monkeypatch.delenv(name)


@pytest.fixture
def project() -> Iterator[Path]:
    """A project whose services are stand-ins; its data root is `data`."""
    project = temporary_root()
    stand_in = PROJECT / "tests" / "support" / "stand_in_service.py"
    for service in SERVICES:
        package = project / "services" / service
        package.mkdir(parents=True)
        for init in (package.parent / "__init__.py", package / "__init__.py"):
            init.touch()
        shutil.copy(stand_in, package / "__main__.py")
    yield project
    stop_running(project / "data")
    shutil.rmtree(project)


def start_owner(project: Path) -> subprocess.Popen[str]:
    """Start another process that owns a stack, and wait until it serves."""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, project], env=environment, cwd="/", stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "started\n"
    return owner


def recorded(project: Path) -> list[psutil.Process]:
    """Return the long-lived processes of a running stack that another process owns."""
    records = StackState(project / "data").recorded()
    return [process for record in records if (process := record.find())]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


class TestStack:
    def test_migrates_serves_and_leaves_nothing_behind(self, project: Path) -> None:
        with Stack(project / "data", durable=False, project=project) as stack:
            assert stack.postgres is not None
            assert running_endpoints(project / "data") == stack.endpoints()
            processes = recorded(project)
            assert len(processes) == PROCESSES
            for service in SERVICES:
                assert stack.postgres.run_sql("SELECT count(*) FROM migrated", service) == ["1"]
            accept = stack.services.child("ingest-accept").log_tail()
            assert "['--role', 'accept']" in accept
            assert "ingest_worker@" in accept
        assert alive(processes) == []
        assert running_endpoints(project / "data") is None
        assert "stopped in good order" in (project / "data" / "logs" / "billing.log").read_text()

        with Stack(project / "data", durable=False, project=project) as again:
            assert again.postgres is not None
            assert again.postgres.run_sql("SELECT count(*) FROM migrated", "billing") == ["2"]

    def test_restarts_a_killed_process_where_it_was(self, project: Path) -> None:
        with Stack(project / "data", durable=False, project=project) as stack:
            target, pid = stack.services.target("rating"), stack.services.child("rating").pid
            stack.services.child("rating").kill()
            stack.services.start("rating")
            assert stack.services.target("rating") == target
            assert stack.services.child("rating").pid != pid
            assert len(recorded(project)) == PROCESSES

    def test_stops_everything_when_a_service_does_not_start(self, project: Path) -> None:
        (project / "services" / "payments" / "__main__.py").write_text(
            "import sys\nif sys.argv[1] != 'migrate': sys.exit('no such setting: X')\n"
        )
        stack = Stack(project / "data", durable=False, project=project)
        with pytest.raises(EmbeddedError, match="no such setting: X"):
            stack.start()
        assert stack.postgres is not None
        assert not stack.postgres.child.running
        assert not stack.services.child("rating").running
        assert not StackState(project / "data").owned()

    def test_shows_why_a_migration_failed(self, project: Path) -> None:
        (project / "services" / "billing" / "__main__.py").write_text("raise SystemExit('table is locked')\n")
        with pytest.raises(EmbeddedError, match="table is locked"):
            Stack(project / "data", durable=False, project=project).start()


class TestStackOfAnotherProcess:
    def test_is_refused_found_and_stopped(self, project: Path) -> None:
        owner = start_owner(project)
        with pytest.raises(EmbeddedError, match=f"runs already .*{owner.pid}"):
            Stack(project / "data", project=project).start()
        assert running_endpoints(project / "data") is not None
        processes = recorded(project)

        assert stop_running(project / "data")

        assert owner.wait(10) == 128 + signal.SIGTERM
        assert len(processes) == PROCESSES
        assert alive(processes) == []
        assert not stop_running(project / "data")

    def test_that_was_killed_is_cleared_away_by_the_next(self, project: Path) -> None:
        owner = start_owner(project)
        orphans = recorded(project)
        owner.kill()
        owner.wait(10)
        assert len(alive(orphans)) == PROCESSES

        with Stack(project / "data", durable=False, project=project) as stack:
            assert alive(orphans) == []
            assert stack.postgres is not None
            assert stack.postgres.run_sql("SELECT count(*) FROM migrated", "ingest") == ["2"]


class TestExistingServers:
    def test_are_used_for_all_services_or_for_none(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("INGEST_DATABASE_URL", "postgresql://x@127.0.0.1:1/x")
        with pytest.raises(EmbeddedError, match=r"INGEST_WORKER_DATABASE_URL, .*PAYMENTS_ADMIN_DATABASE_URL"):
            Stack(project / "data", durable=False, project=project).start()

    def test_are_not_started_again(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with Stack(project / "data", durable=False, project=project) as first:
            assert first.postgres is not None
            monkeypatch.setenv("NATS_URL", first.endpoints().nats_url)
            for service in SERVICES:
                for role, variable in (("api", ""), ("worker", "WORKER_"), ("owner", "ADMIN_")):
                    url = first.postgres.url(service, f"{service}_{role}")
                    monkeypatch.setenv(f"{service.upper()}_{variable}DATABASE_URL", url)
            with Stack(project / "second", project=project) as second:
                assert (second.postgres, second.nats) == (None, None)
                assert second.endpoints().nats_url == first.endpoints().nats_url
                assert first.postgres.run_sql("SELECT count(*) FROM migrated", "rating") == ["2"]


class TestWhatAStackIsMadeOf:
    def test_a_launcher_decides_what_is_executed(self, project: Path) -> None:
        def launch(plan: ProcessPlan, environment: Mapping[str, str]) -> Launch:
            usual = launch_service(plan, environment)
            elsewhere = usual.environment["NATS_URL"].replace("127.0.0.1", "localhost")
            return Launch((*usual.command, "--as", plan.name), {**usual.environment, "NATS_URL": elsewhere})

        with Stack(project / "data", durable=False, project=project, launcher=launch) as stack:
            log = stack.services.child("ingest-record").log_tail()
            assert "['--role', 'record', '--as', 'ingest-record'] nats://localhost:" in log

    def test_nats_may_be_a_server_of_its_settings(self, project: Path, nats_url: str) -> None:
        with Stack(project / "data", durable=False, project=project, settings={"NATS_URL": nats_url}) as stack:
            assert stack.nats is None
            assert nats_url in stack.services.child("billing").log_tail()
