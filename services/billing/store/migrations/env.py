"""Alembic's entry: libs.database opens the connection and holds the lock."""

from libs.database import run_environment

run_environment()
