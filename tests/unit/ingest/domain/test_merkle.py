"""Trees as RFC 6962 defines them."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain.merkle import EMPTY_ROOT, audit_path, leaf_hash, root, root_from_path

LEAVES = st.lists(st.binary(max_size=4), max_size=70).map(lambda contents: [leaf_hash(item) for item in contents])
SOME = LEAVES.filter(bool)


def defined(leaves: list[bytes]) -> bytes:
    """MTH as section 2.1 writes it: split at the largest power of two below the size."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + defined(leaves[:split]) + defined(leaves[split:])).digest()


@given(LEAVES)
def test_the_root_is_that_of_the_rfc(leaves: list[bytes]) -> None:
    assert root(leaves) == defined(leaves)


def test_known_roots() -> None:
    """Published vectors: the empty tree, and the test tree of certificate transparency's reference implementation."""
    contents = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    leaves = [leaf_hash(bytes.fromhex(content)) for content in contents]

    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert root(leaves[:1]).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert root(leaves).hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


@given(SOME, st.data())
def test_a_path_leads_to_the_root(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))

    assert root_from_path(leaves[index], index, len(leaves), audit_path(leaves, index)) == root(leaves)


@given(SOME, st.data())
def test_a_path_leads_nowhere_else(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = audit_path(leaves, index)
    other = leaf_hash(b"another one")
    altered = [*path]
    if path:
        altered[data.draw(st.integers(0, len(path) - 1))] = other

    assert root_from_path(other, index, len(leaves), path) != root(leaves)
    assert not path or root_from_path(leaves[index], index, len(leaves), altered) != root(leaves)
    with pytest.raises(ValueError, match="too long"):
        root_from_path(leaves[index], index, len(leaves), [*path, other])
    if path:
        with pytest.raises(ValueError, match="too short"):
            root_from_path(leaves[index], index, len(leaves), path[:-1])


@pytest.mark.parametrize(("index", "size"), [(-1, 1), (1, 1), (0, 0)])
def test_refuses_a_leaf_that_is_not_there(index: int, size: int) -> None:
    leaves = [leaf_hash(b"")] * size
    with pytest.raises(IndexError):
        audit_path(leaves, index)
    with pytest.raises(ValueError, match="no leaf"):
        root_from_path(leaf_hash(b""), index, size, [])
