"""Ports, accounts and directories of this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from libs.embedded import machine
from libs.embedded.errors import EmbeddedError

ROOT = Path(__file__).resolve().parents[4]


class TestFreePort:
    def test_can_be_listened_on_and_is_not_an_ephemeral_one(self) -> None:
        first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        for _ in range(20):
            port = machine.free_port()
            assert 1024 < port < first_ephemeral
            with socket.socket() as listener:
                listener.bind(("127.0.0.1", port))

    def test_nobody_else_is_given_a_port_before_somebody_listens(self) -> None:
        taken = machine.free_port()
        script = (
            "import secrets, sys; from libs.embedded import machine; "
            f"choices = [{taken} - machine._LOWEST_PORT, {taken} - machine._LOWEST_PORT + 1]; "
            "secrets.randbelow = lambda below: choices.pop(0); print(machine.free_port())"
        )
        found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
        assert found.stdout.strip() == str(taken + 1), found.stderr

    def test_a_process_holds_few_sockets_however_many_ports_it_asks_for(self) -> None:
        open_before = len(os.listdir("/proc/self/fd"))
        ports = {machine.free_port() for _ in range(300)}
        assert len(ports) > 290
        assert len(os.listdir("/proc/self/fd")) <= open_before + machine._RESERVED_AT_ONCE


class TestOpenToAll:
    def test_looks_at_every_directory_above(self, server_root: Path) -> None:
        inner = server_root / "outer" / "inner"
        inner.mkdir(parents=True)
        assert machine.open_to_all(inner / "file")
        inner.parent.chmod(0o700)
        assert not machine.open_to_all(inner / "file")

    def test_does_not_mind_directories_that_are_not_there_yet(self, server_root: Path) -> None:
        assert machine.open_to_all(server_root / "not" / "yet")


class TestDataRoot:
    def test_is_the_preferred_place_where_that_can_be_reached(self, server_root: Path) -> None:
        root = machine.data_root(server_root / "data")
        assert root == server_root / "data"
        assert root.stat().st_mode & 0o777 == 0o711

    @pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's PostgreSQL is the user's own")
    def test_is_elsewhere_for_root_where_postgres_cannot_reach_it(self, server_root: Path) -> None:
        hidden = server_root / "hidden"
        hidden.mkdir(mode=0o700)
        root = machine.data_root(hidden / ".steelyard")
        try:
            assert root.parent == Path("/var/tmp")
            assert machine.open_to_all(root / "data")
            assert machine.data_root(hidden / ".steelyard") == root
        finally:
            root.rmdir()

    def test_is_refused_if_it_is_a_link(self, server_root: Path) -> None:
        (server_root / "link").symlink_to("/var/tmp")
        with pytest.raises(EmbeddedError, match="belongs to another user"):
            machine.data_root(server_root / "link")
