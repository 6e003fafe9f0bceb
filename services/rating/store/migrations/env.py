"""Alembic's entry; see libs.database."""

from libs.database import run_environment

run_environment()
