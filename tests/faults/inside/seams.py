"""Where production code is patched from outside."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def module(name: str) -> Any:
    """Return a module whose functions are to be replaced. By its full name: a package may export a function under the
    name of its module (`libs.process.supervise`)."""
    return import_module(name)
