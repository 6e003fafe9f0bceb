"""The overlays, rendered once."""

from __future__ import annotations

import shutil
import warnings

import pytest

from tests.unit.deploy.manifests import OVERLAYS, Overlay, render


@pytest.fixture(scope="session")
def rendered() -> dict[str, Overlay]:
    """All overlays. Without kubectl the tests of rendered manifests cannot run, and say so; test_sources.py does."""
    if shutil.which("kubectl") is None:
        reason = "kubectl is not on PATH: the overlays were NOT rendered, only the source files were checked"
        warnings.warn(reason, stacklevel=1)
        pytest.skip(reason)
    return {name: render(name) for name in OVERLAYS}


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest, rendered: dict[str, Overlay]) -> Overlay:
    """Each overlay in turn."""
    return rendered[request.param]


@pytest.fixture
def local(rendered: dict[str, Overlay]) -> Overlay:
    return rendered["local"]


@pytest.fixture
def production(rendered: dict[str, Overlay]) -> Overlay:
    return rendered["production"]
