"""How commands print: tables for people, JSON for programs, errors on stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, NoReturn

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table

from libs.money import MINOR_DIGITS, plain
from steelyard.common.v1 import money_pb2
from steelyard.errors import InvalidRequest, NotAllowed, SteelyardError, Unavailable

# Into a file or a pipe, tables are as wide as they need to be instead of being folded to an assumed 80 columns.
_PLAIN_WIDTH = 160
CONSOLE = Console(width=None if Console().is_terminal else _PLAIN_WIDTH)
ERRORS = Console(stderr=True)

# Exit codes: 0 done, 1 the answer is "no" (rejected events, differences), 2 wrong usage (Typer's own), and:
EXIT_NO = 1
EXIT_UNAVAILABLE = 3
EXIT_REFUSED = 4
EXIT_FAILED = 5


class Format(Enum):
    """What `--output` takes."""

    TABLE = "table"
    JSON = "json"


Output = Annotated[Format, typer.Option("--output", "-o", help="table for people, json for programs")]
Columns = Mapping[str, Callable[[Any], object]]


def show(messages: Sequence[Message], columns: Columns, output: Format, *, title: str = "") -> None:
    """Print messages of one kind, one row each."""
    if output is Format.JSON:
        print_json([as_dict(message) for message in messages])
        return
    table(columns.keys(), ([cell(message) for cell in columns.values()] for message in messages), title=title)


def table(columns: Iterable[str], rows: Iterable[Iterable[object]], *, title: str = "") -> None:
    """Print a table; columns that end with `#` are numbers and stand to the right."""
    if title:
        CONSOLE.print(title, style="italic", highlight=False)  # A title of the table would be folded to its width.
    grid = Table(header_style="bold", box=None, pad_edge=False)
    for column in columns:
        grid.add_column(column.rstrip("#"), justify="right" if column.endswith("#") else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(str(cell) for cell in row))
    CONSOLE.print(grid)


def print_json(value: object) -> None:
    """Print JSON on stdout, unwrapped."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def as_dict(message: Message) -> dict[str, Any]:
    """Return the message in proto JSON form with the protos' own field names."""
    return MessageToDict(message, preserving_proto_field_name=True)


def money(value: money_pb2.Money) -> str:
    """Return an amount in major units, for example "12.30"."""
    digits = MINOR_DIGITS[value.currency] if value.currency else 2
    return f"{Decimal(value.minor_units).scaleb(-digits):.{digits}f}"


def quantity(text: str) -> str:
    """Return a decimal string in its shortest form."""
    return plain(Decimal(text)) if text else ""


def instant(value: Timestamp) -> str:
    """Return an instant in RFC 3339, or nothing if it is unset."""
    return value.ToJsonString() if value.seconds or value.nanos else ""


def name_of(enum: Any, value: int, prefix: str) -> str:
    """Return an enum value's name for people: INVOICE_STATE_PAID with prefix INVOICE_STATE is "paid"."""
    return str(enum.Name(value)).removeprefix(f"{prefix}_").lower().replace("_", " ")


def fail(error: Exception) -> NoReturn:
    """Print an error and leave with its exit code."""
    ERRORS.print(f"[bold red]error:[/] {error}", highlight=False)
    match error:
        case Unavailable():
            raise typer.Exit(EXIT_UNAVAILABLE)
        case InvalidRequest() | NotAllowed():
            raise typer.Exit(EXIT_REFUSED)
        case SteelyardError() | _:
            raise typer.Exit(EXIT_FAILED)
