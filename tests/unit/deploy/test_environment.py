"""What a pod gets as environment is what its service reads: nothing that it needs is missing, nothing is ignored."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from tests.unit.deploy.manifests import SERVICES, Overlay, Workload, referenced_secrets, secret_values, without_hash

READ_BY_TELEMETRY = {"LOG_LEVEL", "METRICS_LISTEN"}
ROLES = {"ingest": {"accept", "record", "query", "maintain"}} | {
    name: {"api", "work"} for name in SERVICES if name != "ingest"
}
PEERS = {
    "INGEST_QUERY_TARGET": "ingest-query",
    "RATING_TARGET": "rating-api",
    "BILLING_TARGET": "billing-api",
    "PAYMENTS_TARGET": "payments-api",
}


class Asked(Mapping[str, str]):
    """An environment that remembers which variables somebody looked for."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def environment(workload: Workload, overlay: Overlay, secrets: Overlay) -> dict[str, str]:
    """The variables of the first container. Secrets are taken from `secrets`: production expects them from outside."""
    container, values = workload.containers[0], dict[str, str]()
    for source in container.get("envFrom", ()):
        if "configMapRef" in source:
            values |= overlay.get("ConfigMap", source["configMapRef"]["name"])["data"]
        else:
            values |= secret_values(secrets, without_hash(source["secretRef"]["name"]))
    for variable in container.get("env", ()):
        values[variable["name"]] = variable.get("value", "from the pod")
    return values


def read_by_config(service: str, role: str, values: Asked) -> None:
    """Let the service read its settings.

    :raises ConfigError: naming what is missing or wrong
    """
    config = importlib.import_module(f"services.{service}.config")
    config.Config.from_env(values=values, role=role)


def of_kubernetes_or_telemetry(name: str, values: Mapping[str, str]) -> bool:
    """Whether a variable is for others than the service's Config: telemetry, or other variables made from it."""
    made_from_it = any(f"$({name})" in value for value in values.values())
    return name in READ_BY_TELEMETRY or name.startswith("OTEL_") or made_from_it


class TestServiceProcess:
    def test_there_is_one_deployment_for_each_role(self, overlay: Overlay) -> None:
        arguments = [workload.containers[0]["args"] for workload in overlay.service_processes()]

        assert sorted(arguments) == sorted(
            [f"services.{service}", "--role", role] for service, roles in ROLES.items() for role in roles
        )

    def test_all_roles_are_deployed(self) -> None:
        for service, roles in ROLES.items():
            assert set(importlib.import_module(f"services.{service}.config").ROLES) == roles | {"all"}

    def test_gets_what_it_requires_and_nothing_that_it_ignores(self, overlay: Overlay, local: Overlay) -> None:
        for workload in overlay.service_processes():
            values = Asked(environment(workload, overlay, local))
            service, role = workload.service, workload.containers[0]["args"][2]
            assert service is not None

            read_by_config(service, role, values)

            ignored = set(values) - values.names
            assert {name for name in ignored if not of_kubernetes_or_telemetry(name, values)} == set(), workload.name

    def test_listens_where_the_ports_are(self, overlay: Overlay, local: Overlay) -> None:
        for workload in overlay.service_processes():
            values = environment(workload, overlay, local)

            assert values["GRPC_LISTEN"] == f"0.0.0.0:{workload.port('grpc')}"
            assert values["METRICS_LISTEN"] == f"0.0.0.0:{workload.port('metrics')}"

    def test_finds_its_peers(self, overlay: Overlay, local: Overlay) -> None:
        found = set()
        for workload in overlay.service_processes():
            values = environment(workload, overlay, local)
            for variable in PEERS.keys() & values.keys():
                service = overlay.get("Service", PEERS[variable])
                assert values[variable] == f"dns:///{PEERS[variable]}:{service['spec']['ports'][0]['port']}"
                found.add(variable)
        assert found == set(PEERS)

    def test_logs_in_as_api_and_worker_only(self, overlay: Overlay, local: Overlay) -> None:
        for workload in overlay.service_processes():
            values = environment(workload, overlay, local)
            urls = {name: urlsplit(value) for name, value in values.items() if name.endswith("DATABASE_URL")}
            service = str(workload.service)
            both = {
                f"{service.upper()}_DATABASE_URL": (f"{service}_api", f"/{service}"),
                f"{service.upper()}_WORKER_DATABASE_URL": (f"{service}_worker", f"/{service}"),
            }

            # Usage is accepted without a database.
            expected = {} if workload.name == "ingest-accept" else both
            assert {name: (url.username, url.path) for name, url in urls.items()} == expected


class TestMigration:
    def test_alone_logs_in_as_the_owner(self, overlay: Overlay, local: Overlay) -> None:
        readers = {
            workload.name
            for workload in overlay.workloads()
            if any(without_hash(name).endswith("-owner") for name in referenced_secrets(workload))
        }
        migrations = {f"{service}-migrate": service for service in SERVICES}

        assert readers == set(migrations)
        for name, service in migrations.items():
            job = Workload(overlay.get("Job", name))
            values = Asked(environment(job, overlay, local))
            url = importlib.import_module(f"services.{service}.config").admin_url(values)
            assert job.containers[0]["args"] == [f"services.{service}", "migrate"]
            assert set(values) == values.names == {f"{service.upper()}_ADMIN_DATABASE_URL"}
            assert urlsplit(url).username == f"{service}_owner"
