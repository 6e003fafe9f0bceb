"""The floor of everything that ends in PostgreSQL: the same rows into the same tables, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise

import asyncpg

from benchmarks.sender import BenchmarkError
from libs.clock import monotonic_s

_SCHEMA = "floor"
_TABLE = "SELECT pg_get_partkeydef(oid) AS partition_key, reloptions AS options FROM pg_class WHERE oid = $1::regclass"
_PARTITIONS = """
SELECT relname AS name, pg_get_expr(relpartbound, oid) AS bounds
FROM pg_class JOIN pg_inherits ON inhrelid = oid WHERE inhparent = $1::regclass
"""


_COLUMNS = """
SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute
WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""


@dataclass(frozen=True, slots=True)
class Source:
    """A table, and an integer expression over a row `t` of it by which the rows are cut into transactions."""

    table: str
    position: str


async def copy_s(url: str, sources: Sequence[Source], transactions: int) -> float:
    """Write all rows of the tables again into tables with the same columns, partitions and indexes; return how long.

    Rows go in by COPY in PostgreSQL's own binary form, over one connection, in so many transactions. COPY is the
    fastest way in and reading and encoding are not timed, so the floor is one of the server alone.
    """
    async with _empty_tables(url, sources) as connection:
        chunks = [await _read_encoded(connection, source, transactions) for source in sources]
        await connection.execute("CHECKPOINT")  # What was written before is not to be paid for here.
        began_s = monotonic_s()
        for number in range(transactions):
            async with connection.transaction():
                for source, parts in zip(sources, chunks, strict=True):
                    await connection.copy_to_table(
                        source.table, schema_name=_SCHEMA, source=parts[number], format="binary"
                    )
        return monotonic_s() - began_s


async def insert_s(url: str, sources: Sequence[Source], transactions: int) -> float:
    """The same by what a program does that has values and no COPY: one INSERT of arrays per table and transaction,
    encoded by asyncpg, which is timed."""
    async with _empty_tables(url, sources) as connection:
        writes = [await _read_columns(connection, source, transactions) for source in sources]
        await connection.execute("CHECKPOINT")
        began_s = monotonic_s()
        for number in range(transactions):
            async with connection.transaction():
                for statement, parts in writes:
                    await connection.execute(statement, *parts[number])
        return monotonic_s() - began_s


@asynccontextmanager
async def _empty_tables(url: str, sources: Sequence[Source]) -> AsyncIterator[asyncpg.Connection]:
    """Empty tables beside the real ones, gone at the end; afterwards they must have as many rows."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"CREATE SCHEMA {_SCHEMA}")
        for source in sources:
            await _copy_structure(connection, source.table)
        yield connection
        await _check(connection, sources)
        await connection.execute(f"DROP SCHEMA {_SCHEMA} CASCADE")
    finally:
        await connection.close()


async def _copy_structure(connection: asyncpg.Connection, table: str) -> None:
    found = await connection.fetchrow(_TABLE, f"public.{table}")
    partitioned = f" PARTITION BY {found['partition_key']}" if found["partition_key"] else ""
    await connection.execute(f"CREATE TABLE {_SCHEMA}.{table} (LIKE public.{table} INCLUDING ALL){partitioned}")
    if found["options"]:
        await connection.execute(f"ALTER TABLE {_SCHEMA}.{table} SET ({', '.join(found['options'])})")
    for part in await connection.fetch(_PARTITIONS, f"public.{table}"):
        await connection.execute(
            f"CREATE TABLE {_SCHEMA}.{part['name']} PARTITION OF {_SCHEMA}.{table} {part['bounds']}"
        )


async def _read_encoded(connection: asyncpg.Connection, source: Source, parts: int) -> list[BytesIO]:
    read = []
    for condition in await _parts(connection, source, parts):
        buffer = BytesIO()
        query = f"SELECT t.* FROM public.{source.table} t WHERE {condition}"
        await connection.copy_from_query(query, output=buffer, format="binary")
        buffer.seek(0)
        read.append(buffer)
    return read


async def _read_columns(
    connection: asyncpg.Connection, source: Source, parts: int
) -> tuple[str, list[list[Sequence[object]]]]:
    """The statement, and its arguments for each part: an array per column."""
    columns = [(row["name"], row["type"]) for row in await connection.fetch(_COLUMNS, f"public.{source.table}")]
    names = ", ".join(name for name, _ in columns)
    wanted = ", ".join(f"t.{name}::text" if kind == "jsonb" else f"t.{name}" for name, kind in columns)
    arrays = ", ".join(
        f"${at}::{'text' if kind == 'jsonb' else kind}[]" for at, (_, kind) in enumerate(columns, start=1)
    )
    values = ", ".join(f"{name}::{kind}" for name, kind in columns)
    statement = (
        f"INSERT INTO {_SCHEMA}.{source.table} ({names}) SELECT {values} FROM unnest({arrays}) AS given ({names})"
    )
    read: list[list[Sequence[object]]] = []
    for condition in await _parts(connection, source, parts):
        rows = await connection.fetch(f"SELECT {wanted} FROM public.{source.table} t WHERE {condition}")
        read.append([list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in columns])
    return statement, read


async def _parts(connection: asyncpg.Connection, source: Source, parts: int) -> list[str]:
    """Conditions that cut the table's rows into so many parts."""
    at = source.position
    low, high = await connection.fetchrow(f"SELECT min({at}), max({at}) FROM public.{source.table} t")
    if low is None:
        raise BenchmarkError(f"{source.table} has no rows to write again")
    bounds = [low + (high + 1 - low) * part // parts for part in range(parts + 1)]
    return [f"{at} >= {first} AND {at} < {after}" for first, after in pairwise(bounds)]


async def _check(connection: asyncpg.Connection, sources: Sequence[Source]) -> None:
    for source in sources:
        counts = [
            await connection.fetchval(f"SELECT count(*) FROM {schema}.{source.table}") for schema in ("public", _SCHEMA)
        ]
        if counts[0] != counts[1]:
            raise BenchmarkError(f"{source.table}: {counts[1]} of {counts[0]} rows were written again")
