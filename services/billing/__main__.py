"""python -m services.billing --role api|work|all, or migrate"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys

import uvloop

from libs.database import migrate
from libs.process import ConfigError
from services.billing.config import ROLES, Config, admin_url
from services.billing.main import serve
from services.billing.store.tables import MIGRATIONS


def main() -> None:
    """Serve until SIGTERM, or migrate the database; exits with a message if the settings are wrong."""
    parser = argparse.ArgumentParser(prog="python -m services.billing")
    parser.add_argument("command", nargs="?", choices=["serve", "migrate"], default="serve")
    parser.add_argument("--role", choices=ROLES, default="all")
    arguments = parser.parse_args()
    try:
        if arguments.command == "migrate":
            asyncio.run(migrate(admin_url(os.environ), MIGRATIONS))
            return
        config = Config.from_env(os.environ, arguments.role)
    except ConfigError as error:
        sys.exit(f"billing: {error}")
    # Charges come by the thousand, as tuples without a cycle: the collector would walk them all, again and again, to
    # find nothing.
    gc.freeze()
    gc.set_threshold(200_000, 20, 50)
    uvloop.run(serve(config))


if __name__ == "__main__":
    main()
