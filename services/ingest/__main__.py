"""python -m services.ingest --role accept|record|query|maintain|all, or migrate"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

import uvloop

from libs.database import migrate
from libs.process import ConfigError, collect_rarely
from services.ingest.config import ROLES, Config, admin_url
from services.ingest.main import serve
from services.ingest.store.migrations import PACKAGE


def main() -> None:
    """Serve until SIGTERM, or migrate the database; exits with a message if the settings are wrong."""
    parser = argparse.ArgumentParser(prog="python -m services.ingest")
    parser.add_argument("command", nargs="?", choices=["serve", "migrate"], default="serve")
    parser.add_argument("--role", choices=ROLES, default="all")
    arguments = parser.parse_args()
    try:
        if arguments.command == "migrate":
            asyncio.run(migrate(admin_url(os.environ), PACKAGE))
            return
        config = Config.from_env(os.environ, arguments.role)
    except ConfigError as error:
        sys.exit(f"ingest: {error}")
    collect_rarely()
    uvloop.run(serve(config))


if __name__ == "__main__":
    main()
