"""EmbeddedPostgres: durable by default, back on the same port after a crash."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.embedded.errors import EmbeddedError
from libs.embedded.postgres import EmbeddedPostgres


@pytest.fixture(scope="module")
def own_postgres(server_root: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(server_root / "own-postgres") as server:
        yield server


class TestEmbeddedPostgres:
    def test_is_durable_unless_told_otherwise(self, own_postgres: EmbeddedPostgres, postgres: EmbeddedPostgres) -> None:
        shown = "SHOW fsync; SHOW synchronous_commit; SHOW full_page_writes; SHOW data_checksums"
        assert own_postgres.run_sql(shown) == ["on", "on", "on", "on"]
        assert postgres.run_sql(shown) == ["off", "off", "off", "on"]

    def test_comes_back_with_its_data_on_the_same_port_after_a_crash(self, own_postgres: EmbeddedPostgres) -> None:
        own_postgres.run_sql("CREATE TABLE kept (id int); INSERT INTO kept VALUES (7)")
        url = own_postgres.url()

        for _ in range(3):
            own_postgres.kill()
            own_postgres.start()

        assert own_postgres.run_sql("SELECT id FROM kept") == ["7"]
        assert own_postgres.url() == url

    def test_refuses_to_start_twice(self, own_postgres: EmbeddedPostgres) -> None:
        with pytest.raises(EmbeddedError, match="running already"):
            own_postgres.start()

    def test_names_the_statement_that_fails(self, own_postgres: EmbeddedPostgres) -> None:
        with pytest.raises(EmbeddedError, match='relation "absent" does not exist'):
            own_postgres.run_sql("SELECT 1; SELECT * FROM absent")

    def test_shows_the_log_when_it_cannot_start(self, own_postgres: EmbeddedPostgres, server_root: Path) -> None:
        other = EmbeddedPostgres(server_root / "other-postgres")
        other.port = own_postgres.port
        with pytest.raises(EmbeddedError, match="could not bind"):
            other.start()
