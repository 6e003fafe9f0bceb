"""Where `steelyard up` keeps its data, and whether it runs there."""

from __future__ import annotations

import os
from pathlib import Path

from libs.cli.output import fail
from libs.embedded.errors import EmbeddedError
from libs.embedded.stack import DEFAULT_ROOT, running_endpoints
from libs.embedded.state import Endpoints


def home() -> Path:
    """Return the data root: STEELYARD_HOME, or else `.steelyard` in the project's folder."""
    named = os.environ.get("STEELYARD_HOME")
    return Path(named).absolute() if named else DEFAULT_ROOT


def running() -> Endpoints | None:
    """Return where the stack at home answers, None without one; leave if home cannot be looked into."""
    root = home()
    try:
        # Looking for a stack creates its data root: a command that only talks to other targets should leave no trace.
        return running_endpoints(root) if root.exists() else None
    except (EmbeddedError, OSError) as error:
        fail(EmbeddedError(f"{error}; STEELYARD_HOME names another place"))
