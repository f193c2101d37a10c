"""The Merkle tree of RFC 6962 (SHA-256): heads, proofs, and their checks.

A tree over leaves 0..n-1 has one head; a proof of inclusion shows with about log2(n) hashes that a
leaf is under a head, a proof of consistency that one head's leaves begin another's. Whoever holds a
head holds all of the past to it. Leaves and inner nodes are hashed with different first bytes, so
that neither can pass for the other.

It must not: know what a leaf is, or where hashes are kept. `Frontier` is all that appending takes;
proofs ask for the heads of aligned ranges through a function.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from operator import add
from typing import Final

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256().digest()

RangeHash = Callable[[int, int], bytes]
"""Head of leaves start..end-1, where end - start is a power of 2 that divides start."""


def leaf_hash(data: bytes) -> bytes:
    """Hash of a leaf. RFC 6962, 2.1."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node. RFC 6962, 2.1."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """What of a tree is needed to append to it: heads of its complete subtrees, largest first.

    Parameters
    ----------
    size
        Number of leaves.
    heads
        One 32-byte hash for each bit that is set in `size`, the highest bit's first.

    Raises
    ------
    ValueError
        Heads that are not as many as the size says.
    """

    def __init__(self, size: int = 0, heads: Iterable[bytes] = ()) -> None:
        self.size, self._heads = size, list(heads)
        if size < 0 or len(self._heads) != bin(size).count("1"):
            raise ValueError(f"a tree of {size} leaves does not have {len(self._heads)} heads")

    @property
    def heads(self) -> tuple[bytes, ...]:
        """As the parameter."""
        return tuple(self._heads)

    def append(self, leaf: bytes) -> None:
        """Add the hash of one leaf."""
        heads, size = self._heads, self.size
        while size & 1:
            leaf = node_hash(heads.pop(), leaf)
            size >>= 1
        heads.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """Head of the tree."""
        return root_over(self._heads)

    def copy(self) -> Frontier:
        """Another that goes on from here."""
        return Frontier(self.size, self._heads)


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Head of a tree over these hashes of leaves."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


def leaf_hashes(data: Iterable[bytes]) -> list[bytes]:
    """Hashes of leaves, as `leaf_hash` has them. Quicker for many."""
    return _hash_all(hashlib.sha256(b"\x00"), data)


def fold(hashes: Sequence[bytes]) -> bytes:
    """Head over hashes, as many as a power of 2. Quicker than `root_of`."""
    begun = hashlib.sha256(b"\x01")
    while len(hashes) > 1:
        hashes = _hash_all(begun, map(add, hashes[::2], hashes[1::2]))
    return hashes[0]


def _hash_all(begun: hashlib._Hash, data: Iterable[bytes]) -> list[bytes]:
    """Hash of each after what was begun: to copy that is quicker than to begin anew."""
    found = []
    copy = begun.copy
    for each in data:
        one = copy()
        one.update(each)
        found.append(one.digest())
    return found


def make_inclusion_proof(index: int, size: int, range_hash: RangeHash) -> list[bytes]:
    """Audit path of leaf `index` (from 0) under the head of `size` leaves. RFC 6962, 2.1.1.

    Raises
    ------
    ValueError
        There is no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    path = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_hash_of(middle, end, range_hash))
            end = middle
        else:
            path.append(_hash_of(start, middle, range_hash))
            start = middle
    return path[::-1]


def is_included(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether the hash of a leaf is at `index` (from 0) under a head. RFC 9162, 2.1.3.2."""
    if not 0 <= index < size:
        return False
    at, last, found = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if at & 1 or at == last:
            found = node_hash(sibling, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and found == root


def make_consistency_proof(old: int, new: int, range_hash: RangeHash) -> list[bytes]:
    """That the head of `old` leaves begins the tree of `new`. RFC 6962, 2.1.2.

    Raises
    ------
    ValueError
        Not 0 < old <= new.
    """
    if not 0 < old <= new:
        raise ValueError(f"no proof leads from {old} leaves to {new}")
    path = []
    start, end = 0, new
    is_whole = True  # whether the old tree is still one of this range's complete subtrees
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(_hash_of(middle, end, range_hash))
            end = middle
        else:
            path.append(_hash_of(start, middle, range_hash))
            start, is_whole = middle, False
    if not is_whole:
        path.append(_hash_of(start, end, range_hash))
    return path[::-1]


def is_consistent(
    old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]
) -> bool:
    """Whether a head of `old` leaves begins the tree of another of `new`. RFC 9162, 2.1.4.2."""
    if not 0 < old <= new:
        return False
    if old == new:
        return not path and old_root == new_root
    hashes = [old_root, *path] if old & (old - 1) == 0 else list(path)
    if not hashes:
        return False
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    first = second = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root


def _split(size: int) -> int:
    """The largest power of 2 below a size of at least 2."""
    return 1 << ((size - 1).bit_length() - 1)


def _hash_of(start: int, end: int, range_hash: RangeHash) -> bytes:
    """Head of leaves start..end-1, of aligned ranges; `start` is aligned to the first of them."""
    heads = []
    while start < end:
        size = 1 << ((end - start).bit_length() - 1)
        heads.append(range_hash(start, start + size))
        start += size
    return root_over(heads)


def root_over(heads: Sequence[bytes]) -> bytes:
    """Head over complete subtrees, largest first."""
    if not heads:
        return EMPTY_ROOT
    root = heads[-1]
    for head in reversed(heads[:-1]):
        root = node_hash(head, root)
    return root
