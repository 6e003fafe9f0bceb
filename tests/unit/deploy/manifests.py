"""The Kubernetes manifests of deploy/k8s as the tests see them."""

from __future__ import annotations

import base64
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
K8S = ROOT / "deploy" / "k8s"
OVERLAYS = ("local", "production")
SERVICES = ("ingest", "rating", "billing", "payments")

Manifest = dict[str, Any]
_GENERATED_HASH = re.compile(r"-[a-z0-9]{10}$")
_WORKLOADS = ("Deployment", "StatefulSet", "Job")


@dataclass(frozen=True)
class Workload:
    """A Deployment, StatefulSet or Job."""

    manifest: Manifest

    @property
    def kind(self) -> str:
        return str(self.manifest["kind"])

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its pods."""
        return dict(self.manifest["spec"]["template"]["metadata"]["labels"])

    @property
    def pod(self) -> Manifest:
        """The pod's spec."""
        return dict(self.manifest["spec"]["template"]["spec"])

    @property
    def containers(self) -> list[Manifest]:
        return [*self.pod.get("initContainers", ()), *self.pod["containers"]]

    @property
    def service(self) -> str | None:
        """Which of the four services it runs; None for anything else."""
        arguments = self.pod["containers"][0].get("args", [""])
        name = str(arguments[0]).removeprefix("services.")
        return name if name in SERVICES else None

    @property
    def is_service_process(self) -> bool:
        return self.kind == "Deployment" and self.service is not None

    def port(self, name: str) -> int | None:
        """The number of a port that one of the containers names."""
        ports = [port for container in self.containers for port in container.get("ports", ())]
        return next((port["containerPort"] for port in ports if port["name"] == name), None)


@dataclass(frozen=True)
class Overlay:
    """An overlay as `kubectl kustomize` renders it."""

    name: str
    objects: tuple[Manifest, ...]

    def all(self, kind: str) -> list[Manifest]:
        return [item for item in self.objects if item["kind"] == kind]

    def get(self, kind: str, name: str) -> Manifest:
        """The object of that name, be it with or without the hash of a generator."""
        return next(
            item
            for item in self.all(kind)
            if name in (item["metadata"]["name"], without_hash(item["metadata"]["name"]))
        )

    def workloads(self) -> list[Workload]:
        return [Workload(item) for item in self.objects if item["kind"] in _WORKLOADS]

    def service_processes(self) -> list[Workload]:
        return [workload for workload in self.workloads() if workload.is_service_process]


def without_hash(name: str) -> str:
    return _GENERATED_HASH.sub("", name)


def secret_values(overlay: Overlay, name: str) -> dict[str, str]:
    """What a Secret holds, decoded."""
    data: dict[str, str] = overlay.get("Secret", name)["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def referenced_secrets(workload: Workload) -> Iterator[str]:
    """The names of the Secrets that the pods read, by whatever way."""
    for container in workload.containers:
        for source in container.get("envFrom", ()):
            if "secretRef" in source:
                yield source["secretRef"]["name"]
        for variable in container.get("env", ()):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                yield variable["valueFrom"]["secretKeyRef"]["name"]
    for volume in workload.pod.get("volumes", ()):
        if "secret" in volume:
            yield volume["secret"]["secretName"]
        for source in volume.get("projected", {}).get("sources", ()):
            if "secret" in source:
                yield source["secret"]["name"]


def render(name: str) -> Overlay:
    """Render an overlay with kubectl; its complaint is the test's failure."""
    command = ["kubectl", "kustomize", str(K8S / "overlays" / name)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
    return Overlay(name, tuple(yaml.safe_load_all(outcome.stdout)))
