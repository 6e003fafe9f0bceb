"""Vectors computed and compared."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

from tests.vectors.contradictions import Unsupported, unsupported
from tests.vectors.registry import RUNNERS, Vector

_FIELDS = ("id", "group", "kind", "input", "expected", "convention")
# Texts, though they may look like numbers.
_TEXTS = frozenset({"string", "group"})
# In any order.
_SETS = frozenset({"groups"})
# With exactly the keys that are expected.
_WHOLE_MAPS = frozenset({"allocations", "allocation", "remaining", "balances", "group"})


class BadFile(Exception):
    """A file cannot be read, or is no file of vectors."""


class Status(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class Outcome:
    vector_id: str
    status: Status
    detail: str = ""


def read_vectors(path: Path) -> list[Vector]:
    """
    :raises BadFile: naming file and line
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(f"{path}: {error}") from error
    return [_vector(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]


def _vector(line: str, where: str) -> Vector:
    try:
        found = json.loads(line, parse_float=str)
    except json.JSONDecodeError as error:
        raise BadFile(f"{where}: {error}") from error
    missing = [name for name in _FIELDS if not isinstance(found, dict) or name not in found]
    if missing:
        raise BadFile(f"{where}: no {', '.join(missing)}")
    vector: Vector = found
    return vector


def run(vectors: Iterable[Vector]) -> list[Outcome]:
    return [_run_one(vector) for vector in vectors]


def _run_one(vector: Vector) -> Outcome:
    group, kind = vector["group"], vector["kind"]
    try:
        runner = RUNNERS.get((group, kind)) or unsupported("no_runner", f"{group}/{kind}")
        result = runner(vector)
    except Unsupported as error:
        return Outcome(vector["id"], Status.UNSUPPORTED, str(error))
    except Exception as error:  # One broken vector must not hide the others.
        where = traceback.extract_tb(error.__traceback__)[-1]
        return Outcome(vector["id"], Status.FAILED, f"{error!r} at {where.filename}:{where.lineno}")
    differences = list(differences_of(vector["expected"], result))
    return Outcome(vector["id"], Status.FAILED if differences else Status.PASSED, "; ".join(differences))


def differences_of(expected: Any, found: Any, where: str = "") -> Iterator[str]:
    """How a result differs from what is expected; keys that are not expected do not count."""
    name = where.rpartition(".")[2]
    if isinstance(expected, dict) and isinstance(found, dict):
        if "error" in expected and not where:
            if "error" not in found:
                yield f"expected a refusal, found {found}"
            return
        for key in sorted(expected):
            if key not in found:
                yield f"{where}.{key} is missing"
            else:
                yield from differences_of(expected[key], found[key], f"{where}.{key}")
        if name in _WHOLE_MAPS and found.keys() - expected.keys():
            yield f"{where} has more: {sorted(found.keys() - expected.keys())}"
    elif isinstance(expected, list) and isinstance(found, list):
        yield from _differences_of_lists(expected, found, where)
    elif not _equal(expected, found, as_text=not _TEXTS.isdisjoint(where.split("."))):
        yield f"{where}: expected {expected!r}, found {found!r}"


def _differences_of_lists(expected: Sequence[Any], found: Sequence[Any], where: str) -> Iterator[str]:
    if len(expected) != len(found):
        yield f"{where}: expected {len(expected)} items, found {len(found)}: {found}"
        return
    if where.rpartition(".")[2] not in _SETS:
        for index, (wanted, item) in enumerate(zip(expected, found, strict=True)):
            yield from differences_of(wanted, item, f"{where}[{index}]")
        return
    left = list(found)
    for wanted in expected:
        match = next((item for item in left if not any(differences_of(wanted, item, where + "[]"))), None)
        if match is None:
            yield f"{where}: no item is {wanted}, left are {left}"
        else:
            left.remove(match)


def _equal(expected: Any, found: Any, *, as_text: bool) -> bool:
    if expected == found:
        return True
    if as_text or expected is None or found is None:
        return False
    try:
        return Fraction(str(expected)) == Fraction(str(found))
    except ValueError:  # A text.
        return False
