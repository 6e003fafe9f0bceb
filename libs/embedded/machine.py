"""What this machine lets us do: free ports, an account without privileges, directories others may pass."""

from __future__ import annotations

import hashlib
import os
import pwd
import secrets
import socket
import tempfile
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from libs.embedded.errors import EmbeddedError

_LOWEST_PORT = 10_240
_PORT_ATTEMPTS = 200
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_SHARED_TEMPORARY = Path("/var/tmp")  # noqa: S108 - unlike /tmp it outlives a restart; ownership is checked on use
PASSABLE = 0o711  # The server's account must get through to its own directory, and see nothing on the way.


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the operating system that a child process runs as."""

    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """Return the account PostgreSQL has to run as, or None where we are an ordinary user ourselves.

    :raises EmbeddedError: if we are root and the machine has neither `postgres` nor `nobody`
    """
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise EmbeddedError("PostgreSQL refuses to run as root and this machine has no user `postgres` or `nobody`")


_RESERVED_AT_ONCE = 64
_reserved: deque[socket.socket] = deque()


def free_port() -> int:
    """Return a loopback TCP port that nobody listens on, below the range of outgoing connections.

    A port inside that range could be taken by a client's outgoing connection while its server is down, even by a
    connection of the client to itself, and the server could then not come back on the same port. Nobody else on this
    machine is given it before this process has asked for `_RESERVED_AT_ONCE` others, or has ended: by then a server
    listens there.
    """
    highest = _first_ephemeral_port() - 1
    for _ in range(_PORT_ATTEMPTS):
        port = _LOWEST_PORT + secrets.randbelow(highest - _LOWEST_PORT)
        # A name outside of the file system, gone with the socket: whoever dies leaves nothing behind.
        reservation, probe = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), socket.socket()
        with probe:
            try:
                reservation.bind(f"\0steelyard-port-{port}")
                probe.bind(("127.0.0.1", port))
            except OSError:
                reservation.close()
                continue
        _reserved.append(reservation)
        if len(_reserved) > _RESERVED_AT_ONCE:
            _reserved.popleft().close()
        return port
    raise EmbeddedError(f"no free port between {_LOWEST_PORT} and {highest}")


def open_to_all(directory: Path) -> bool:
    """Tell whether other users may pass every directory on the way to this one."""
    return all(parent.stat().st_mode & 0o001 for parent in directory.absolute().parents if parent.exists())


def data_root(preferred: Path) -> Path:
    """Create and return the directory that holds the data of the servers.

    That is `preferred`, unless we are root and the account PostgreSQL runs as cannot reach it (a project under /root):
    then a directory of our own in /var/tmp, whose name is derived from `preferred`.
    """
    if unprivileged_account() is None or open_to_all(preferred):
        return _own_directory(preferred)
    digest = hashlib.sha256(str(preferred.absolute()).encode()).hexdigest()[:12]
    return _own_directory(_SHARED_TEMPORARY / f"steelyard-{digest}")


def temporary_root() -> Path:
    """Create a directory for servers that live as long as one test run; the caller removes it."""
    standard = Path(tempfile.gettempdir())
    place = standard if unprivileged_account() is None or open_to_all(standard / "x") else _SHARED_TEMPORARY
    root = Path(tempfile.mkdtemp(prefix="steelyard-", dir=place))
    root.chmod(PASSABLE)
    return root


def _own_directory(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    # Anyone may create names in /var/tmp: what lies there counts only if it is ours.
    if path.is_symlink() or path.stat().st_uid != os.geteuid():
        raise EmbeddedError(f"{path} belongs to another user; remove it or choose another data root")
    path.chmod(PASSABLE)
    return path


def _first_ephemeral_port() -> int:
    if _EPHEMERAL_RANGE.exists():
        return max(int(_EPHEMERAL_RANGE.read_text().split()[0]), _LOWEST_PORT + 1_000)
    return 32_768
