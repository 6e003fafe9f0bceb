"""Merkle trees as RFC 6962 (2.1) defines them: SHA-256, leaves and nodes hashed apart.

Trees grow to the size of a batch, so all leaves are at hand. A lone node at the end of a level moves up as it is, which
gives the same tree as the RFC's split at the largest power of two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

_sha256 = hashlib.sha256
EMPTY_ROOT = _sha256(b"").digest()


def leaf_hash(content: bytes) -> bytes:
    return _sha256(b"\x00" + content).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over the hashes of leaves, in order."""
    if not leaves:
        return EMPTY_ROOT
    level = leaves
    while len(level) > 1:
        level = _above(level)
    return level[0]


def audit_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """What, besides the leaf at `index`, makes the root: from the leaf's neighbour upwards.

    :raises IndexError: if there is no such leaf
    """
    if not 0 <= index < len(leaves):
        raise IndexError(f"no leaf {index} of {len(leaves)}")
    path = []
    level = leaves
    while len(level) > 1:
        if index ^ 1 < len(level):
            path.append(level[index ^ 1])
        level, index = _above(level), index >> 1
    return path


def root_from_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root of the tree of `size` leaves that has the hash `leaf` at `index`, if the path belongs to it.

    :raises ValueError: if a path of this length belongs to no such leaf
    """
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} of {size}")
    found, last, rest = leaf, size - 1, list(path)
    while last > 0:
        if index ^ 1 <= last:
            if not rest:
                raise ValueError("the path is too short")
            other = rest.pop(0)
            found = _node(other, found) if index & 1 else _node(found, other)
        index, last = index >> 1, last >> 1
    if rest:
        raise ValueError("the path is too long")
    return found


def _above(level: Sequence[bytes]) -> list[bytes]:
    pairs = zip(level[::2], level[1::2], strict=False)  # An odd one is appended below.
    above = [_sha256(b"\x01" + left + right).digest() for left, right in pairs]
    if len(level) % 2:
        above.append(level[-1])
    return above


def _node(left: bytes, right: bytes) -> bytes:
    return _sha256(b"\x01" + left + right).digest()
