"""`python -m services.rating --role api|work|all`, `python -m services.rating migrate`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

import uvloop

from libs.database import migrate
from libs.process import ConfigError, collect_rarely
from services.rating.config import ROLES, Config, admin_url


def main() -> int:
    """Return the exit status; wrong settings are told on stderr."""
    parser = argparse.ArgumentParser(prog="services.rating", description="Prices usage: rate cards, charges.")
    parser.add_argument("command", nargs="?", choices=("serve", "migrate"), default="serve")
    parser.add_argument("--role", choices=ROLES, default="all")
    arguments = parser.parse_args()
    try:
        if arguments.command == "migrate":
            from services.rating.store.tables import MIGRATIONS

            asyncio.run(migrate(admin_url(os.environ), MIGRATIONS))
        else:
            from services.rating.main import serve

            collect_rarely()
            uvloop.run(serve(Config.from_env(os.environ, arguments.role)))
    except ConfigError as error:
        print(f"rating: {error}", file=sys.stderr)
        return os.EX_CONFIG
    return 0


if __name__ == "__main__":
    sys.exit(main())
