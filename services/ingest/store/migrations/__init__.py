"""Alembic migrations of ingest's database."""

PACKAGE = __name__
