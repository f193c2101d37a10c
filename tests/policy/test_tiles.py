"""Tiles: paths as C2SP has them, and every head out of them."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_collab.policy.merkle import (
    is_consistent,
    is_included,
    make_consistency_proof,
    make_inclusion_proof,
    root_of,
)
from jupyterhub_collab.policy.tiles import (
    MissingTileError,
    Tile,
    TileHashes,
    tile_at,
    tiles_between,
    tiles_of,
)


def leaves_of(size: int) -> list[bytes]:
    return [hashlib.sha256(b"%d" % n).digest() for n in range(size)]


def tiles_over(leaves: list[bytes]) -> dict[Tile, bytes]:
    """All tiles, made the slow way: each hash the head of its range of leaves."""
    found = {}
    for tile in tiles_of(len(leaves)):
        span = 256**tile.level
        first = tile.number * 256
        heads = [
            root_of(leaves[n * span : (n + 1) * span]) for n in range(first, first + tile.width)
        ]
        found[tile] = b"".join(heads)
    return found


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 0, 1), "tile/0/000.p/1"),
        (Tile(3, 1234067), "tile/3/x001/x234/067"),
        (Tile(0, 1234067, 255), "tile/0/x001/x234/067.p/255"),
        (Tile(63, 1000), "tile/63/x001/000"),
    ],
)
def test_paths_are_those_of_c2sp(tile: Tile, path: str) -> None:
    assert tile.path == path
    assert Tile.from_path(path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/0/0",
        "tile/00/000",
        "tile/64/000",
        "tile/0/x000/001",  # a second path for tile 1
        "tile/0/001/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/../000",
        "/tile/0/000",
        "tile/0/000\n",
        "tile/0/٠٠٠",
        "tile/0/" + "x999/" * 40 + "000",
    ],
)
def test_nothing_else_is_a_path(path: str) -> None:
    with pytest.raises(ValueError, match="is not the path of a tile"):
        Tile.from_path(path)


def test_which_tiles_a_tree_has() -> None:
    assert list(tiles_of(0)) == []
    assert list(tiles_of(1)) == [Tile(0, 0, 1)]
    assert list(tiles_of(256)) == [Tile(0, 0), Tile(1, 0, 1)]
    assert list(tiles_of(70000)) == [
        *(Tile(0, n) for n in range(273)),
        Tile(0, 273, 112),
        Tile(1, 0),
        Tile(1, 1, 17),
        Tile(2, 0, 1),
    ]
    assert tile_at(0, 273, 70000) == Tile(0, 273, 112)
    assert tile_at(0, 274, 70000) is None


@given(st.integers(0, 70000), st.integers(0, 70000))
def test_a_copy_that_writes_what_is_new_has_all(one: int, other: int) -> None:
    old, new = sorted((one, other))
    assert set(tiles_of(new)) <= set(tiles_of(old)) | set(tiles_between(old, new))
    assert not set(tiles_of(old)) & set(tiles_between(old, new))


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 1000, 65536, 66000])
def test_heads_and_proofs_out_of_tiles(size: int) -> None:
    leaves = leaves_of(size)
    hashes = TileHashes(size, tiles_over(leaves).get)
    root = root_of(leaves)
    assert hashes.frontier().root() == root
    for index in {0, size // 3, size - 1}:
        path = make_inclusion_proof(index, size, hashes.range_hash)
        assert is_included(leaves[index], index, size, path, root)
    old = max(1, size // 3)
    path = make_consistency_proof(old, size, hashes.range_hash)
    assert is_consistent(old, size, root_of(leaves[:old]), root, path)


def test_what_is_not_at_hand_is_said() -> None:
    leaves = leaves_of(600)
    tiles = tiles_over(leaves)
    with pytest.raises(MissingTileError, match="no tile 2 of level 0"):
        TileHashes(600, {**tiles, Tile(0, 2, 88): None}.get).hashes(0, 2)
    with pytest.raises(MissingTileError, match="32 bytes instead of 2816"):
        TileHashes(600, {**tiles, Tile(0, 2, 88): bytes(32)}.get).hashes(0, 2)
    with pytest.raises(MissingTileError):
        TileHashes(600, tiles.get).range_hash(512, 1024)
