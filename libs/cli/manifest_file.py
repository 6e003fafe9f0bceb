"""A manifest as YAML or JSON, with the field names of docs/guides/missing-usage.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from libs.cli.parsing import parse_instant
from steelyard.ingest.v1 import finding_service_pb2 as pb

_FIELDS = {"source", "start_time", "end_time", "lines"}
_LINE_FIELDS = {"meter_id", "customer_id", "event_count", "sum"}
_MAX_DIGITS = 18


class ManifestFileError(ValueError):
    """A file holds no manifest."""


def read_manifest(path: Path) -> pb.Manifest:
    """
    :raises ManifestFileError: naming what is wrong first
    :raises OSError: if it cannot be read
    """
    try:
        # Every scalar as the text that stands there: a number must not become a float on the way.
        documents = list(yaml.load_all(path.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader))
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ManifestFileError(f"no YAML: {error}") from error
    if len(documents) != 1:
        raise ManifestFileError(f"must hold one manifest, holds {len(documents)}")
    given = _mapping(documents[0], _FIELDS, "manifest")
    lines = given.get("lines")
    if not isinstance(lines, list):
        raise ManifestFileError("lines: must be a list")
    manifest = pb.Manifest(
        source=_text(given, "source"), lines=[_line(line, f"lines[{index}]") for index, line in enumerate(lines)]
    )
    for name in ("start_time", "end_time"):
        try:
            getattr(manifest, name).FromDatetime(parse_instant(_text(given, name)))
        except ValueError as error:
            raise ManifestFileError(f"{name}: {error}") from error
    return manifest


def _line(given: object, where: str) -> pb.ManifestLine:
    line = _mapping(given, _LINE_FIELDS, where)
    count = _text(line, "event_count")
    if not (count.isascii() and count.isdecimal() and len(count) <= _MAX_DIGITS):
        raise ManifestFileError(f"{where}.event_count: must be a whole number")
    return pb.ManifestLine(
        meter_id=_text(line, "meter_id"),
        customer_id=_text(line, "customer_id"),
        event_count=int(count),
        sum=_text(line, "sum"),
    )


def _mapping(given: object, known: set[str], where: str) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise ManifestFileError(f"{where}: must have fields")
    unknown = sorted(map(str, given.keys() - known))
    if unknown:
        raise ManifestFileError(f"{where}: {unknown[0]} is no field")
    return given


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name, "")
    if not isinstance(value, str):
        raise ManifestFileError(f"{name}: must be one value")
    return value
