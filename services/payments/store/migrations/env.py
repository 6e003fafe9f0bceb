"""Alembic's entry point."""

from libs.database import run_environment

run_environment()
