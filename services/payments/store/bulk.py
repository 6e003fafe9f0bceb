"""Many rows in one statement of constant text: the columns go in as arrays.

Long VALUES lists would be compiled by SQLAlchemy and planned by PostgreSQL anew for each number of rows, which took
most of the time of a chunk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.database import raw

Values = Mapping[str, object]

_TYPES: dict[type[object], str] = {
    sa.Text: "text",
    sa.Integer: "integer",
    sa.BigInteger: "bigint",
    sa.Boolean: "boolean",
    sa.DateTime: "timestamptz",
}


class Rows:
    """Some columns of a table, whose rows are written together in the order of the key."""

    def __init__(self, table: sa.Table, *names: str) -> None:
        """Without names: all columns but those that PostgreSQL fills."""
        generated = {column.name for column in table.c if column.identity is not None}
        self._columns = names or tuple(column.name for column in table.c if column.name not in generated)
        self._types = [_TYPES[type(table.c[name].type)] for name in self._columns]
        self.names = ", ".join(self._columns)
        self._table = table.name
        self._key = tuple(column.name for column in table.primary_key.columns)

    def insert(self, then: str = "") -> str:
        """Return the INSERT; `then` is what follows, such as ON CONFLICT."""
        order = ", ".join(self._key)
        select = f"SELECT {self.names} FROM {self.given()} ORDER BY {order}"  # noqa: S608
        return f"INSERT INTO {self._table} ({self.names}) {select} {then}"

    def update(self) -> str:
        """Return the UPDATE of the columns that are not in the key, for rows that the transaction has locked."""
        changed = [name for name in self._columns if name not in self._key]
        to = ", ".join(f"{name} = given.{name}" for name in changed)
        same = " AND ".join(f"{self._table}.{name} = given.{name}" for name in self._key)
        return f"UPDATE {self._table} SET {to} FROM {self.given()} WHERE {same}"  # noqa: S608

    def given(self, first: int = 1) -> str:
        """Return the rows as a table `given`, its arrays being the parameters from `first` on."""
        arrays = ", ".join(f"${number}::{name}[]" for number, name in enumerate(self._types, first))
        return f"unnest({arrays}) AS given ({self.names})"

    def __len__(self) -> int:
        return len(self._columns)

    def arrays(self, rows: Sequence[Values]) -> list[list[object]]:
        """Return the parameters."""
        return [[row[name] for row in rows] for name in self._columns]


async def execute(connection: AsyncConnection, statement: str, rows: Rows, values: Sequence[Values]) -> None:
    """Run a statement with the rows, unless there are none."""
    if values:
        await (await raw(connection)).execute(statement, *rows.arrays(values))
