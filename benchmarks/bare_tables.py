"""The floor of everything that ends in PostgreSQL: the same rows into the same tables, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
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


@dataclass(frozen=True, slots=True)
class Source:
    """A table, and an integer expression over a row `t` of it by which the rows are cut into transactions."""

    table: str
    position: str


async def bare_insert_s(url: str, sources: Sequence[Source], transactions: int) -> float:
    """Write all rows of the tables again into tables with the same columns, partitions and indexes; return how long.

    Rows go in by COPY in PostgreSQL's own binary form, over one connection, in so many transactions. COPY is the
    fastest way in and reading and encoding are not timed, so the floor is one of the server alone.
    """
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"CREATE SCHEMA {_SCHEMA}")
        for source in sources:
            await _copy_structure(connection, source.table)
        chunks = [await _read(connection, source, transactions) for source in sources]
        await connection.execute("CHECKPOINT")  # What was written before is not to be paid for here.
        began_s = monotonic_s()
        for number in range(transactions):
            async with connection.transaction():
                for source, parts in zip(sources, chunks, strict=True):
                    await connection.copy_to_table(
                        source.table, schema_name=_SCHEMA, source=parts[number], format="binary"
                    )
        elapsed_s = monotonic_s() - began_s
        await _check(connection, sources)
        return elapsed_s
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


async def _read(connection: asyncpg.Connection, source: Source, parts: int) -> list[BytesIO]:
    table, at = f"public.{source.table} t", source.position
    low, high = await connection.fetchrow(f"SELECT min({at}), max({at}) FROM {table}")
    if low is None:
        raise BenchmarkError(f"{source.table} has no rows to write again")
    bounds = [low + (high + 1 - low) * part // parts for part in range(parts + 1)]
    read = []
    for first, after in pairwise(bounds):
        buffer = BytesIO()
        query = f"SELECT t.* FROM {table} WHERE {at} >= {first} AND {at} < {after}"
        await connection.copy_from_query(query, output=buffer, format="binary")
        buffer.seek(0)
        read.append(buffer)
    return read


async def _check(connection: asyncpg.Connection, sources: Sequence[Source]) -> None:
    for source in sources:
        counts = [
            await connection.fetchval(f"SELECT count(*) FROM {schema}.{source.table}") for schema in ("public", _SCHEMA)
        ]
        if counts[0] != counts[1]:
            raise BenchmarkError(f"{source.table}: {counts[1]} of {counts[0]} rows were written again")
