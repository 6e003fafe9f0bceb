"""python -m services.payments --role api|work|all, or migrate"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

import uvloop

from libs.database import SchemaBehindError, migrate
from libs.process import ConfigError
from services.payments.config import ROLES, Config, admin_url
from services.payments.main import serve
from services.payments.store.tables import MIGRATIONS


def main() -> int:
    """Serve until SIGTERM, or migrate the database; returns the exit status, wrong settings are told on stderr."""
    parser = argparse.ArgumentParser(prog="python -m services.payments")
    parser.add_argument("command", nargs="?", choices=["serve", "migrate"], default="serve")
    parser.add_argument("--role", choices=ROLES, default="all")
    arguments = parser.parse_args()
    try:
        if arguments.command == "migrate":
            asyncio.run(migrate(admin_url(os.environ), MIGRATIONS))
        else:
            uvloop.run(serve(Config.from_env(os.environ, arguments.role)))
    except (ConfigError, SchemaBehindError) as error:
        print(f"payments: {error}", file=sys.stderr)
        return os.EX_CONFIG
    return 0


if __name__ == "__main__":
    sys.exit(main())
