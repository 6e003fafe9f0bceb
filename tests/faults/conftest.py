"""Where runs with faults leave their histories, logs and data: kept if a test failed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.embedded.machine import temporary_root


@pytest.fixture(scope="module")
def fault_root(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory for the stacks of one module."""
    failed_before = request.session.testsfailed
    root = temporary_root()
    yield root
    if request.session.testsfailed == failed_before:
        shutil.rmtree(root)
