"""The files of deploy/ and the Dockerfile as they lie there, without kubectl."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from libs.embedded.binaries import nats_server
from tests.unit.deploy.manifests import K8S, OVERLAYS, ROOT, Manifest
from tests.unit.deploy.test_pods import PINNED, container_faults

FILES = sorted(K8S.rglob("*.yaml"))
KUSTOMIZATIONS = [path for path in FILES if path.name == "kustomization.yaml"]
PLACEHOLDER = "steelyard"  # The image that each overlay names for itself.
NOT_IN_THE_IMAGE = ("libs.cli", "libs.embedded")


def documents(path: Path) -> list[Manifest]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def containers(document: Manifest) -> list[Manifest]:
    found = document.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    return list(found)


class TestManifests:
    def test_there_is_something_to_check(self) -> None:
        assert {path.parent.name for path in KUSTOMIZATIONS} >= {"base", *OVERLAYS}

    @pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: str(path.parent.relative_to(K8S)))
    def test_a_kustomization_names_what_is_there_and_all_of_it(self, path: Path) -> None:
        (kustomization,) = documents(path)
        generators = kustomization.get("configMapGenerator", []) + kustomization.get("secretGenerator", [])
        files = [file.split("=")[-1] for generator in generators for file in generator.get("files", ())]
        named = [*kustomization["resources"], *(patch["path"] for patch in kustomization.get("patches", ())), *files]
        beside = {item.name for item in path.parent.iterdir() if item.is_file()} - {"kustomization.yaml"}

        assert [name for name in named if not (path.parent / name).exists()] == []
        assert beside == {name for name in named if (path.parent / name).is_file()}

    def test_images_have_versions(self) -> None:
        images = {c["image"] for path in FILES for d in documents(path) for c in containers(d) if "image" in c}

        assert [image for image in images if image != PLACEHOLDER and not PINNED.fullmatch(image)] == []
        for overlay in OVERLAYS:
            (kustomization,) = documents(K8S / "overlays" / overlay / "kustomization.yaml")
            (image,) = kustomization["images"]
            assert image["name"] == PLACEHOLDER
            assert image["newTag"] != "latest"

    def test_containers_are_restricted_by_their_file_or_by_the_shared_patch(self) -> None:
        patched = {"service-deployment.yaml": {"has no requests", "has no memory limit"}, "migrate-job.yaml": set()}
        for path in FILES:
            for document in documents(path):
                for container in containers(document):
                    if container["name"] == "service" and path.name not in patched:
                        continue  # One of the services: what it lacks is in the two patches, checked here as well.
                    faults = {fault.removeprefix(f"{container['name']} ") for fault in container_faults(container)}
                    excused = patched.get(path.name, set()) | {"has an image without a version"}
                    assert faults - (excused if container["image"] == PLACEHOLDER else set()) == set(), path

    def test_only_the_local_overlay_has_secrets(self) -> None:
        generating = {path.parent.name for path in KUSTOMIZATIONS if "secretGenerator" in documents(path)[0]}
        written = [path for path in FILES for document in documents(path) if document.get("kind") == "Secret"]

        assert (generating, written) == ({"local"}, [])


class TestNatsConfiguration:
    def test_is_understood_by_nats_server(self, tmp_path: Path) -> None:
        (tmp_path / "nats.conf").write_text((K8S / "base" / "nats" / "nats.conf").read_text())
        authorization = K8S / "overlays" / "local" / "nats-authorization.conf"
        (tmp_path / "authorization.conf").write_text(authorization.read_text())

        command = [str(nats_server()), "-t", "-c", str(tmp_path / "nats.conf")]
        outcome = subprocess.run(command, capture_output=True, text=True, check=False)

        assert outcome.returncode == 0, outcome.stderr


class TestImage:
    dockerfile = (ROOT / "Dockerfile").read_text()

    def test_is_built_from_pinned_and_hashed_requirements(self) -> None:
        assert "--require-hashes -r" in self.dockerfile
        assert re.search(r"^ARG BASE=\S+:(?!latest)\S+$", self.dockerfile, re.MULTILINE)

    def test_runs_as_the_user_that_the_manifests_name(self) -> None:
        (patch,) = documents(K8S / "base" / "service-deployment.yaml")
        context = patch["spec"]["template"]["spec"]["securityContext"]

        assert f"\nUSER {context['runAsUser']}:{context['runAsGroup']}\n" in self.dockerfile

    def test_copies_what_is_there_and_not_ignored(self) -> None:
        ignore = (ROOT / ".dockerignore").read_text().splitlines()
        copied = re.findall(r"^COPY (?!--from)(\S+) ", self.dockerfile, re.MULTILINE)

        assert copied != []
        assert [path for path in copied if not (ROOT / path).exists() or f"!{path}" not in ignore] == []

    def test_needs_nothing_that_is_left_out(self) -> None:
        ignore = (ROOT / ".dockerignore").read_text().splitlines()
        left_out = [module.replace(".", "/") for module in NOT_IN_THE_IMAGE]
        assert set(left_out) <= set(ignore)
        needing = [
            str(path.relative_to(ROOT))
            for room in ("libs", "services")
            for path in (ROOT / room).rglob("*.py")
            if not str(path.relative_to(ROOT)).startswith(tuple(left_out)) and imports(path, NOT_IN_THE_IMAGE)
        ]
        assert needing == []


def imports(path: Path, modules: tuple[str, ...]) -> bool:
    """Whether a file imports one of the modules, or something in them."""
    names = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return any(name == module or name.startswith(f"{module}.") for name in names for module in modules)
