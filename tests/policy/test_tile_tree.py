"""The end of the tree: heads as the whole tree has them, each tile handed out once."""

from __future__ import annotations

import hashlib

import pytest

from jupyterhub_collab.policy.merkle import root_of
from jupyterhub_collab.policy.tile_tree import TileTree
from jupyterhub_collab.policy.tiles import Tile, TileHashes, tiles_of

LEAVES = [hashlib.sha256(b"%d" % n).digest() for n in range(66_000)]


def grow(count, tree=None):
    kept = {}
    tree = tree or TileTree()
    for leaf in LEAVES[tree.size : count]:
        for tile, hashes in tree.append(leaf):
            assert (tile.level, tile.number) not in kept
            kept[tile.level, tile.number] = hashes
    return tree, kept


@pytest.mark.parametrize("count", [0, 1, 2, 255, 256, 257, 511, 512, 1000])
def test_the_head_is_the_whole_trees(count):
    tree, kept = grow(count)
    assert tree.size == tree.frontier().size == count
    assert tree.frontier().root() == root_of(LEAVES[:count])
    assert set(kept) == {(t.level, t.number) for t in tiles_of(count) if t.width == 256}


def test_tiles_of_all_levels_and_heads_of_the_past():
    tree, kept = grow(66_000)
    assert tree.frontier().root() == root_of(LEAVES)
    assert (1, 0) in kept
    assert all(
        hashes == b"".join(LEAVES[256 * n : 256 * n + 256])
        for (level, n), hashes in kept.items()
        if level == 0
    )

    def fetch(tile):
        return tree.fetch(tile, lambda level, number: kept.get((level, number)))

    for size in (1, 300, 65_535, 65_536, 65_537, 66_000):
        assert TileHashes(size, fetch).frontier().root() == root_of(LEAVES[:size])
    assert fetch(Tile(0, 257, 208)) == b"".join(LEAVES[65_792:66_000])
    assert fetch(Tile(0, 257, 3)) == b"".join(LEAVES[65_792:65_795])
    assert fetch(Tile(0, 257, 209)) is fetch(Tile(0, 257)) is fetch(Tile(3, 0, 1)) is None


@pytest.mark.parametrize("step", [1, 7, 255, 256, 257, 1000, 70_000])
def test_many_at_once_are_as_one_by_one(step):
    alone, kept = grow(66_000)
    tree, full = TileTree(), []
    for at in range(0, 66_000, step):
        full += tree.extend(LEAVES[at : at + step])
    assert [((tile.level, tile.number), hashes) for tile, hashes in full] == list(kept.items())
    assert (tree.size, tree.frontier().heads) == (66_000, alone.frontier().heads)


def test_a_copy_goes_its_own_way():
    tree, _ = grow(300)
    other, _ = grow(600, tree.copy())
    assert tree.frontier().root() == root_of(LEAVES[:300])
    assert other.frontier().root() == root_of(LEAVES[:600])


@pytest.mark.parametrize("unfinished", [[], [LEAVES[:2]], [LEAVES[:3], LEAVES[:1]]])
def test_an_end_that_does_not_fit_the_size(unfinished):
    with pytest.raises(ValueError, match="does not end so"):
        TileTree(300, unfinished)
