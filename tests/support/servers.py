"""Real servers for tests: databases made by a service's own migrations, once per test process, then copied."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

from libs.database import migrations
from libs.embedded.databases import ServiceDatabase, ServiceDatabases
from libs.embedded.postgres import EmbeddedPostgres

Migrate = Callable[[str], Awaitable[object] | object]
"""Brings the database at the owner's URL to the newest schema and leaves no connection open."""


class DatabaseFactory:
    """Makes fresh databases. The first one of a service is migrated and kept as the template of all others."""

    def __init__(self, postgres: EmbeddedPostgres) -> None:
        self._databases = ServiceDatabases(postgres)
        self._templates: dict[tuple[str, Migrate | None], str] = {}
        self._made = 0

    async def __call__(self, service: str, migrate: Migrate | None = None) -> ServiceDatabase:
        """Return a new database with the URLs of its three roles, migrated by `migrate` or as the service itself does.

        `migrate` is a function of a module: one made for every call would make a template for every call.
        """
        template = self._templates.get((service, migrate)) or await self._make_template(service, migrate)
        return await asyncio.to_thread(self._databases.ensure, service, self._next_name(service), template=template)

    async def empty(self, service: str) -> ServiceDatabase:
        """Return a new database of the service without any table, for tests of the migrations themselves."""
        return await asyncio.to_thread(self._databases.ensure, service, self._next_name(service))

    async def _make_template(self, service: str, migrate: Migrate | None) -> str:
        template = await self.empty(service)
        if migrate is None:
            await migrations.migrate(template.owner_url, f"services.{service}.store.migrations")
        else:
            await self._run(migrate, template.owner_url)
        self._templates[service, migrate] = template.name
        return template.name

    @staticmethod
    async def _run(migrate: Migrate, owner_url: str) -> None:
        # In a thread, so that a synchronous migration may run an event loop of its own.
        outcome = await asyncio.to_thread(migrate, owner_url)
        if inspect.isawaitable(outcome):
            await outcome

    def _next_name(self, service: str) -> str:
        self._made += 1
        return f"{service}_{self._made}"
