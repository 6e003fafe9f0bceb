"""How commands print: tables for people, JSON for programs, errors and notes on stderr."""

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
from rich.text import Text

from libs.money import MINOR_DIGITS, plain
from steelyard.common.v1 import money_pb2
from steelyard.errors import DeliveryFailed, InvalidRequest, NotAllowed, SteelyardError, Unavailable

# Into a file or a pipe, tables are as wide as they need to be instead of being folded to an assumed 80 columns.
_PLAIN_WIDTH = 10_000
CONSOLE = Console(width=None if Console().is_terminal else _PLAIN_WIDTH)
ERRORS = Console(stderr=True)

# Exit codes: 0 done, 1 the answer is "no" (rejected events, differences), 2 wrong usage (Typer's own too), and:
EXIT_NO = 1
EXIT_USAGE = 2
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
        say(title, style="italic")  # A title of the table would be folded to its width.
    grid = Table(header_style="bold", box=None, pad_edge=False)
    for column in columns:
        grid.add_column(column.rstrip("#"), justify="right" if column.endswith("#") else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(printable(str(cell))) for cell in row))
    CONSOLE.print(grid)


def say(text: str, *, style: str = "") -> None:
    """Print a line on stdout, as it is."""
    CONSOLE.print(Text(printable(text)), style=style, soft_wrap=True)


def note(text: str) -> None:
    """Print a line that is not part of the answer: on stderr, as it is."""
    ERRORS.print(Text(printable(text)), soft_wrap=True)


def printable(text: str) -> str:
    r"""Write out what a terminal would obey instead of show: U+001B becomes \x1b.

    Ids and names come from customers; they must not be able to move the cursor, nor to break a row of a table.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def print_json(value: object) -> None:
    """Print JSON on stdout, unwrapped."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def as_dict(message: Message) -> dict[str, Any]:
    """Return the message in proto JSON form with the protos' own field names.

    A zero, a false or an empty list is there too: a program should not have to know which keys are left out when.
    """
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


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


def fail(error: Exception, code: int | None = None) -> NoReturn:
    """Print an error on stderr and leave with `code`, or else with the exit code of its kind."""
    text = "\n".join(printable(line) for line in describe(error).splitlines())
    ERRORS.print(Text.assemble(("error:", "bold red"), " ", text), soft_wrap=True)
    raise typer.Exit(_exit_code(error) if code is None else code)


def describe(error: Exception) -> str:
    """Return an error's message with its reason, and those fields at fault that the message does not name itself."""
    if not isinstance(error, SteelyardError):
        return str(error)
    message = str(error.args[0])
    fields = [f"{v.field}: {v.description}" for v in error.violations if v.description not in message]
    return "; ".join([f"{message} [{error.reason}]" if error.reason else message, *fields])


def _exit_code(error: Exception) -> int:
    match error:
        case Unavailable() | DeliveryFailed():  # The SDK gives up delivering only what nobody answers.
            return EXIT_UNAVAILABLE
        case InvalidRequest() | NotAllowed():
            return EXIT_REFUSED
        case _:
            return EXIT_FAILED
