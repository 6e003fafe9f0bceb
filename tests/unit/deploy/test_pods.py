"""Every pod is restricted, bounded, probed, and given the time to stop in good order."""

from __future__ import annotations

import inspect
import re

from libs.process import supervise
from libs.rpc import GrpcServer
from tests.unit.deploy.manifests import Manifest, Overlay, Workload

PINNED = re.compile(r".+(:(?!latest$)[\w][\w.-]*|@sha256:[0-9a-f]{64})")


def pod_faults(workload: Workload) -> list[str]:
    """What the restricted Pod Security Standard, and we beyond it, find wrong with the pod as a whole."""
    pod, context = workload.pod, workload.pod.get("securityContext", {})
    rules = {
        "runs as root": context.get("runAsNonRoot") is True and context.get("runAsUser", 0) > 0,
        "has no seccomp profile": context.get("seccompProfile", {}).get("type") == "RuntimeDefault",
        "gets a token": pod.get("automountServiceAccountToken") is False,
        "gets service links": pod.get("enableServiceLinks") is False,
        "shares a namespace of the host": not {"hostNetwork", "hostPID", "hostIPC"} & set(pod),
        "mounts a directory of the host": not any("hostPath" in volume for volume in pod.get("volumes", ())),
    }
    return [f"{workload.name} {fault}" for fault, kept in rules.items() if not kept]


def container_faults(container: Manifest) -> list[str]:
    context, resources = container.get("securityContext", {}), container.get("resources", {})
    rules = {
        "may gain privileges": context.get("allowPrivilegeEscalation") is False,
        "has capabilities": context.get("capabilities") == {"drop": ["ALL"]},
        "may write to its image": context.get("readOnlyRootFilesystem") is True,
        "has no requests": {"cpu", "memory"} <= set(resources.get("requests", ())),
        "has no memory limit": "memory" in resources.get("limits", ()),
        "has an image without a version": PINNED.fullmatch(container["image"]) is not None,
    }
    return [f"{container['name']} {fault}" for fault, kept in rules.items() if not kept]


class TestEveryPod:
    def test_is_restricted(self, overlay: Overlay) -> None:
        assert [fault for workload in overlay.workloads() for fault in pod_faults(workload)] == []

    def test_has_restricted_and_bounded_containers(self, overlay: Overlay) -> None:
        containers = [container for workload in overlay.workloads() for container in workload.containers]

        assert [fault for container in containers for fault in container_faults(container)] == []

    def test_lives_in_a_namespace_that_enforces_it(self, overlay: Overlay) -> None:
        (namespace,) = overlay.all("Namespace")
        inside = {item["metadata"].get("namespace") for item in overlay.objects if item["kind"] != "Namespace"}

        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
        assert inside == {namespace["metadata"]["name"]}

    def test_is_ready_only_when_something_says_so(self, overlay: Overlay) -> None:
        running = [workload for workload in overlay.workloads() if workload.kind != "Job"]

        assert [w.name for w in running if any("readinessProbe" not in c for c in w.containers)] == []


class TestRules:
    """The rules themselves find what they are for."""

    def test_a_bare_pod_breaks_all_of_them(self) -> None:
        bare = {
            "kind": "Job",
            "metadata": {"name": "bare"},
            "spec": {
                "template": {
                    "spec": {
                        "hostNetwork": True,
                        "volumes": [{"name": "root", "hostPath": {"path": "/"}}],
                        "containers": [{"name": "bare", "image": "bare:latest"}],
                    }
                }
            },
        }

        assert len(pod_faults(Workload(bare))) == 6
        assert len(container_faults(Workload(bare).containers[0])) == 6

    def test_versions(self) -> None:
        assert PINNED.fullmatch("registry.example.com:5000/steelyard:0.1.0")
        assert PINNED.fullmatch("steelyard@sha256:" + "0" * 64)
        assert not PINNED.fullmatch("steelyard")
        assert not PINNED.fullmatch("registry.example.com:5000/steelyard:latest")
        assert not PINNED.fullmatch("registry.example.com:5000/steelyard")


class TestServiceProcess:
    def test_is_probed_by_grpc_health(self, overlay: Overlay) -> None:
        for workload in overlay.service_processes():
            (container,) = workload.containers
            port = workload.port("grpc")
            probed = {name: container[f"{name}Probe"]["grpc"] for name in ("startup", "readiness", "liveness")}

            assert {probe["port"] for probe in probed.values()} == {port}
            assert probed["readiness"]["service"] == ""
            # The other two must not follow a dependency: restarting does not bring a database back.
            assert (probed["startup"]["service"], probed["liveness"]["service"]) == ("liveness", "liveness")

    def test_has_the_time_to_drain(self, overlay: Overlay) -> None:
        server = inspect.signature(GrpcServer.__init__).parameters
        draining_s = server["drain_s"].default + server["grace_s"].default
        watchdog_s = inspect.signature(supervise).parameters["grace_s"].default
        for workload in overlay.service_processes():
            sleep_s = workload.containers[0]["lifecycle"]["preStop"]["sleep"]["seconds"]

            assert workload.pod["terminationGracePeriodSeconds"] > sleep_s + max(draining_s, watchdog_s), workload.name

    def test_is_replaced_without_a_gap(self, overlay: Overlay) -> None:
        for workload in overlay.service_processes():
            assert workload.manifest["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}

    def test_may_be_evicted_one_at_a_time(self, overlay: Overlay) -> None:
        budgets = {budget["metadata"]["name"]: budget["spec"] for budget in overlay.all("PodDisruptionBudget")}
        processes = {workload.name: workload for workload in overlay.service_processes()}

        assert set(budgets) == set(processes)
        for name, budget in budgets.items():
            assert budget["selector"] == processes[name].manifest["spec"]["selector"]
            assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")
