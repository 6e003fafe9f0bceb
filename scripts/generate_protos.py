"""Generate the Python code of protos/ into libs/sdk, or with `--check` only tell whether it is up to date.

Runs in .venv-protos (`make protos`). A proto package is the Python package of the same name, so nothing is rewritten.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
SDK = ROOT / "libs" / "sdk"
PACKAGE = "steelyard"


def generate(target: Path) -> None:
    """Write the code of every proto below `target`, and an `__init__.py` for every package that has none."""
    protos = sorted(path.relative_to(PROTOS) for path in PROTOS.rglob("*.proto"))
    if not protos:
        raise SystemExit(f"no protos in {PROTOS}")
    plugins = Path(sys.executable).parent
    well_known_types = files("grpc_tools") / "_proto"
    arguments = [
        "protoc",
        f"--proto_path={PROTOS}",
        f"--proto_path={well_known_types}",
        *(f"--plugin=protoc-gen-{name}={plugins / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc")),
        *(f"--{kind}_out={target}" for kind in ("python", "grpc_python")),
        *(f"--{kind}_out=quiet:{target}" for kind in ("mypy", "mypy_grpc")),
        *map(str, protos),
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed")
    for path in protos:
        if not has_service(PROTOS / path):
            for empty in target.glob(f"{path.with_suffix('')}_pb2_grpc.py*"):
                empty.unlink()
        for package in path.parents:
            marker = target / package / "__init__.py"
            if package not in (Path(), Path(PACKAGE)) and not marker.exists():
                marker.touch()


def has_service(proto: Path) -> bool:
    """Tell whether a proto declares a service; protoc writes a module for its stubs in either case."""
    return any(line.startswith("service ") for line in proto.read_text().splitlines())


def generated_files(root: Path) -> dict[Path, bytes]:
    """Return what was generated below `root`, by relative path."""
    return {
        path.relative_to(root): path.read_bytes()
        for suffix in ("py", "pyi")  # Not pyc: what Python caches beside them is nobody's.
        for path in root.glob(f"{PACKAGE}/**/*_pb2*.{suffix}")
    }


def main() -> None:
    """Generate into a scratch directory, then compare with the SDK or copy what differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the generated code is stale")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh, present = generated_files(Path(scratch)), generated_files(SDK)
        packages = [path.relative_to(scratch) for path in Path(scratch).rglob("__init__.py")]
    stale = sorted(path for path in fresh.keys() | present.keys() if fresh.get(path) != present.get(path))
    stale += sorted(path for path in packages if not (SDK / path).exists())
    if check and stale:
        raise SystemExit("generated code is stale, run `make protos`:\n" + "\n".join(f"  {path}" for path in stale))
    for path in stale:
        if path in fresh or path in packages:
            (SDK / path).parent.mkdir(parents=True, exist_ok=True)
            (SDK / path).write_bytes(fresh.get(path, b""))
        else:
            (SDK / path).unlink()
    done = "up to date" if check else f"{len(stale)} files changed"
    print(f"generated code: {done} (grpcio-tools {version('grpcio-tools')})")


if __name__ == "__main__":
    main()
