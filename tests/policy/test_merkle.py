"""The Merkle tree against RFC 6962's own recursive definition, and proofs that must not pass."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_collab.policy import merkle
from jupyterhub_collab.policy.audit_tree import LogTree

LEAVES = [merkle.leaf_hash(bytes([n])) for n in range(70)]


def head(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, as it stands there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + head(leaves[:k]) + head(leaves[k:])).digest()


def range_hash(start: int, end: int) -> bytes:
    size = end - start
    assert size & (size - 1) == 0, "only complete subtrees are asked for"
    assert start % size == 0
    return head(LEAVES[start:end])


@pytest.mark.parametrize("size", range(70))
def test_every_head_and_every_proof(size: int) -> None:
    root = merkle.root_of(LEAVES[:size])
    assert root == head(LEAVES[:size])
    for index in range(size):
        path = merkle.make_inclusion_proof(index, size, range_hash)
        assert merkle.is_included(LEAVES[index], index, size, path, root)
        assert not merkle.is_included(LEAVES[index], index, size, [*path, LEAVES[0]], root)
        assert not merkle.is_included(LEAVES[69], index, size, path, root)
        assert not path or not merkle.is_included(LEAVES[index], index, size, path[:-1], root)
    for old in range(1, size + 1):
        path = merkle.make_consistency_proof(old, size, range_hash)
        old_root = head(LEAVES[:old])
        assert merkle.is_consistent(old, size, old_root, root, path)
        assert not merkle.is_consistent(old, size, LEAVES[69], root, path)
        assert not path or not merkle.is_consistent(old, size, old_root, root, path[:-1])


def test_a_known_answer_of_certificate_transparency() -> None:
    data = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"]
    data.append("606162636465666768696a6b6c6d6e6f")
    found = merkle.root_of(merkle.leaf_hash(bytes.fromhex(each)) for each in data)
    assert found.hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


@given(st.integers(0, 69), st.data())
def test_a_frontier_goes_on_from_its_heads(size: int, data: st.DataObject) -> None:
    frontier = merkle.Frontier()
    for leaf in LEAVES[:size]:
        frontier.append(leaf)
    again = merkle.Frontier(size, frontier.heads)
    for leaf in LEAVES[size:]:
        again.append(leaf)
    assert again.root() == head(LEAVES)
    wrong = data.draw(st.integers(0, 8).filter(lambda n: n != len(frontier.heads)))
    with pytest.raises(ValueError, match="does not have"):
        merkle.Frontier(size, [LEAVES[0]] * wrong)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 3)])
def test_no_proof_of_what_is_not_there(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="has no leaf"):
        merkle.make_inclusion_proof(index, size, range_hash)
    assert not merkle.is_included(LEAVES[0], index, size, [], LEAVES[0])


@pytest.mark.parametrize(("old", "new"), [(0, 3), (4, 3)])
def test_no_proof_from_nothing_or_backward(old: int, new: int) -> None:
    with pytest.raises(ValueError, match="no proof"):
        merkle.make_consistency_proof(old, new, range_hash)
    assert not merkle.is_consistent(old, new, LEAVES[0], LEAVES[0], [])


def test_many_at_once_are_hashed_as_one_by_one() -> None:
    data = [b"%d" % number for number in range(64)]
    leaves = [merkle.leaf_hash(each) for each in data]
    assert merkle.leaf_hashes(data) == leaves
    assert merkle.leaf_hashes([]) == []
    for width in (1, 2, 4, 64):
        assert merkle.fold(leaves[:width]) == merkle.root_of(leaves[:width])


def test_heads_of_all_sizes_that_a_log_is_asked_for() -> None:
    """In the middle of a tile, at its end, several in one."""
    leaves = merkle.leaf_hashes(b"%d" % number for number in range(700))
    for sizes in ([*range(701)], [1], [256], [255, 256, 257], [512, 699], [700]):
        tree = LogTree([], None, sizes)
        tree.add(b"".join(leaves[:512]))
        tree.add(b"".join(leaves[512:]))
        tree.finish()
        assert tree.roots == {size: merkle.root_of(leaves[:size]) for size in sizes}
