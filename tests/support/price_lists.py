"""The price lists of examples/price-lists: meters, a card, and the worked examples that their READMEs print.

A worked example is a heading, a YAML block with the period and the events, and a table of lines:

    ### Its title
    ```yaml
    period: 2026-03-01/2026-04-01            # days in UTC, the end excluded
    events:
    - {at: 2026-03-02T09:00:00Z, type: t, times: 3, every_s: 60, properties: {p: "1"}}
    ```
    | line | quantity | amount | on the invoice |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from libs.periods import Period

ROOT = Path(__file__).resolve().parents[2] / "examples" / "price-lists"
_EXAMPLE = re.compile(r"^### (.+?)\n.*?^```yaml\n(.*?)^```\n(.*?)(?=^### |\Z)", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\| ([\w*-]+) \| (-?[\d.]*) ?\| (-?[\d.]+) \| (-?[\d.]+) \|$", re.MULTILINE)
_TABLE_LINE = re.compile(r"^\| (?!line |---)", re.MULTILINE)


@dataclass(frozen=True)
class SentEvent:
    """An event of one customer."""

    event_type: str
    at: datetime
    properties: dict[str, str]


@dataclass(frozen=True)
class PrintedLine:
    """A line as printed: the quantity of the meter, the exact amount and the rounded one, in major units."""

    price_id: str
    quantity: Decimal
    amount: Decimal
    invoiced: Decimal


@dataclass(frozen=True)
class WorkedExample:
    """What was used in a period, and what it costs."""

    title: str
    period: Period
    events: list[SentEvent]
    lines: list[PrintedLine]
    total: PrintedLine


@dataclass(frozen=True)
class PriceList:
    """One folder."""

    folder: Path
    examples: list[WorkedExample]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def meters_file(self) -> Path:
        return self.folder / "meters.yaml"

    @property
    def card_file(self) -> Path:
        return self.folder / "ratecard.yaml"


def price_lists() -> list[PriceList]:
    """All folders, by name."""
    folders = sorted(path for path in ROOT.iterdir() if path.is_dir())
    return [PriceList(folder, worked_examples((folder / "README.md").read_text("utf-8"))) for folder in folders]


def worked_examples(readme: str) -> list[WorkedExample]:
    """Every section of a README that begins with `### `; one that cannot be read is an error."""
    found = [_example(*match.groups()) for match in _EXAMPLE.finditer(readme)]
    assert len(found) == len(re.findall(r"^### ", readme, re.MULTILINE)), "a section has no usage"
    return found


def _example(title: str, usage: str, after: str) -> WorkedExample:
    given = yaml.load(usage, Loader=yaml.BaseLoader)  # Texts only: a number must not become a float.
    start, end = (datetime.fromisoformat(day).replace(tzinfo=UTC) for day in given["period"].split("/"))
    rows = _ROW.findall(after)
    assert len(rows) == len(_TABLE_LINE.findall(after)), f"{title}: a row of the table cannot be read"
    *lines, total = (PrintedLine(name, *(Decimal(text or 0) for text in rest)) for name, *rest in rows)
    assert total.price_id == "**total**", f"{title}: the table does not end with its total"
    return WorkedExample(
        title, Period(start, end), [e for item in given["events"] for e in _events(item)], lines, total
    )


def _events(item: dict[str, Any]) -> list[SentEvent]:
    """One, or `times` events `every_s` seconds apart."""
    unknown = item.keys() - {"at", "type", "times", "every_s", "properties"}
    assert not unknown, f"unknown: {sorted(unknown)}"
    first, step = datetime.fromisoformat(item["at"]), timedelta(seconds=int(item.get("every_s", 0)))
    return [
        SentEvent(item["type"], first + number * step, item.get("properties", {}))
        for number in range(int(item.get("times", 1)))
    ]
