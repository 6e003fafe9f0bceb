"""What the overlays promise, and that the parts of each fit together."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from tests.unit.deploy.manifests import K8S, Overlay, Workload, referenced_secrets, secret_values, without_hash

NOT_IN_PRODUCTION = {"STEELYARD_TEST_CLOCKS", "STEELYARD_REFLECTION"}
TELEMETRY = {"otel-collector", "jaeger"}


def selected(overlay: Overlay, selector: dict[str, str]) -> list[Workload]:
    return [workload for workload in overlay.workloads() if selector.items() <= workload.labels.items()]


class TestServices:
    def test_select_the_pods_of_one_workload_and_a_port_that_it_has(self, overlay: Overlay) -> None:
        for service in overlay.all("Service"):
            (workload,) = selected(overlay, service["spec"]["selector"])
            for port in service["spec"]["ports"]:
                assert workload.port(port["targetPort"]) == port["port"], service["metadata"]["name"]

    def test_are_headless_where_clients_balance(self, overlay: Overlay) -> None:
        headless = {s["metadata"]["name"] for s in overlay.all("Service") if s["spec"].get("clusterIP") == "None"}

        assert headless == {service["metadata"]["name"] for service in overlay.all("Service")} - TELEMETRY
        assert headless == {
            "ingest-accept",
            "ingest-query",
            "rating-api",
            "billing-api",
            "payments-api",
            "nats",
            "postgres",
        }

    def test_say_that_they_speak_grpc(self, overlay: Overlay) -> None:
        ports = [port for service in overlay.all("Service") for port in service["spec"]["ports"]]

        assert {port["appProtocol"] for port in ports if port["name"] == "grpc"} == {"kubernetes.io/h2c"}

    def test_name_the_stateful_sets(self, overlay: Overlay) -> None:
        for stateful in overlay.all("StatefulSet"):
            (workload,) = selected(overlay, overlay.get("Service", stateful["spec"]["serviceName"])["spec"]["selector"])
            assert workload.name == stateful["metadata"]["name"]


class TestNats:
    def test_cannot_fill_its_disk(self, overlay: Overlay) -> None:
        (claim,) = overlay.get("StatefulSet", "nats")["spec"]["volumeClaimTemplates"]
        configuration = overlay.get("ConfigMap", "nats-config")["data"]["nats.conf"]
        (limit,) = [line.split()[1] for line in configuration.splitlines() if "max_file_store:" in line]

        # nats-server's GB are 2**30 bytes, as are Kubernetes' Gi.
        assert int(limit.removesuffix("GB")) <= 0.9 * int(claim["spec"]["resources"]["requests"]["storage"][:-2])

    def test_acknowledges_what_is_on_disk(self, overlay: Overlay) -> None:
        assert "sync_interval: always" in overlay.get("ConfigMap", "nats-config")["data"]["nats.conf"]


class TestProduction:
    def test_has_no_secret_of_its_own(self, production: Overlay) -> None:
        assert production.all("Secret") == []
        assert "dev-only" not in json.dumps(production.objects)

    def test_has_neither_test_clocks_nor_reflection(self, production: Overlay) -> None:
        settings = {name for item in production.all("ConfigMap") for name in item["data"]}
        variables = {v["name"] for w in production.workloads() for c in w.containers for v in c.get("env", ())}

        assert (settings | variables) & NOT_IN_PRODUCTION == set()

    def test_loses_no_role_with_one_pod(self, production: Overlay) -> None:
        assert [w.name for w in production.service_processes() if w.manifest["spec"]["replicas"] < 2] == []

    def test_runs_one_image_of_a_registry(self, production: Overlay) -> None:
        images = {c["image"] for w in production.workloads() if w.service for c in w.containers}

        assert len(images) == 1
        assert "/" in images.pop()

    def test_says_which_secrets_it_expects(self, production: Overlay, local: Overlay) -> None:
        readme = (K8S / "README.md").read_text()
        expected = {name for workload in production.workloads() for name in referenced_secrets(workload)}

        assert expected == {without_hash(secret["metadata"]["name"]) for secret in local.all("Secret")}
        for name in expected - {"postgres-passwords"}:
            assert f"`{name}`" in readme
            assert [key for key in secret_values(local, name) if f"`{key}`" not in readme] == []


class TestLocal:
    def test_has_secrets_that_nobody_mistakes(self, local: Overlay) -> None:
        values = [value for s in local.all("Secret") for value in secret_values(local, s["metadata"]["name"]).values()]

        assert [value for value in values if "dev-only" not in value] == []

    def test_uses_the_same_passwords_on_both_sides(self, local: Overlay) -> None:
        passwords = secret_values(local, "postgres-passwords")
        for secret in local.all("Secret"):
            for name, value in secret_values(local, secret["metadata"]["name"]).items():
                if name.endswith("_DATABASE_URL"):
                    url = urlsplit(value)
                    assert url.password == passwords[str(url.username)]
        nats = urlsplit(secret_values(local, "steelyard-credentials")["NATS_URL"])
        authorization = secret_values(local, "nats-authorization")["authorization.conf"]
        assert f'user: "{nats.username}"' in authorization
        assert f'password: "{nats.password}"' in authorization

    def test_reaches_its_servers_by_their_services(self, local: Overlay) -> None:
        urls = [
            urlsplit(value)
            for secret in local.all("Secret")
            for name, value in secret_values(local, secret["metadata"]["name"]).items()
            if name.endswith("_URL")
        ]
        for url in urls:
            assert local.get("Service", str(url.hostname))["spec"]["ports"][0]["port"] == url.port

    def test_sends_traces_to_its_collector_and_that_to_jaeger(self, local: Overlay) -> None:
        endpoint = urlsplit(local.get("ConfigMap", "steelyard-settings")["data"]["OTEL_EXPORTER_OTLP_ENDPOINT"])
        collector = local.get("ConfigMap", "otel-collector-config")["data"]["collector-config.yaml"]

        assert local.get("Service", str(endpoint.hostname))["spec"]["ports"][0]["port"] == endpoint.port
        assert f"jaeger:{local.get('Service', 'jaeger')['spec']['ports'][0]['port']}" in collector

    def test_has_test_clocks_and_reflection(self, local: Overlay) -> None:
        assert local.get("ConfigMap", "billing-settings")["data"]["STEELYARD_TEST_CLOCKS"] == "1"
        assert local.get("ConfigMap", "steelyard-settings")["data"]["STEELYARD_REFLECTION"] == "1"
