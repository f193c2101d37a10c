"""Tiles: the hashes of the audit log's tree in pieces of 256, by paths that logs share.

A tile of level 0 holds the hashes of 256 leaves, one of level 1 the heads of 256 full tiles of
level 0, and so on (C2SP tlog-tiles). Full tiles never change, so they can be copied outside once
and be cached for good; the last of each level is partial and says how wide it is. Tiles under a
signed head name the first leaf that is not what it was.

It must not: read or write tiles. `TileHashes` asks for them through a function.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from .merkle import HASH_BYTES, Frontier, root_of

TILE_WIDTH: Final = 256  # C2SP's number: tiles of 8 KiB
_BITS: Final = 8
_MAX_LEVEL: Final = 63  # as C2SP has it
_PATH: Final = re.compile(
    r"tile/(0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?"
)


@dataclass(frozen=True, order=True)
class Tile:
    """Which tile.

    Attributes
    ----------
    level
        0: hashes of leaves.
    number
        From 0, in its level.
    width
        Hashes in it: `TILE_WIDTH` when it is full.
    """

    level: int
    number: int
    width: int = TILE_WIDTH

    @property
    def path(self) -> str:
        """``tile/0/x001/x234/067``, and ``.p/112`` after it for a partial one."""
        groups = [f"{self.number % 1000:03d}"]
        rest = self.number // 1000
        while rest:
            groups.append(f"x{rest % 1000:03d}")
            rest //= 1000
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{self.level}/{'/'.join(reversed(groups))}{partial}"

    @classmethod
    def from_path(cls, path: str) -> Tile:
        """The tile that a path names. Raises ValueError if it names none."""
        found = _PATH.fullmatch(path)
        if found is not None:
            number = int(found[2].replace("x", "").replace("/", ""))
            tile = cls(int(found[1]), number, int(found[3] or TILE_WIDTH))
            if tile.level <= _MAX_LEVEL and tile.path == path:  # one path for one tile
                return tile
        raise ValueError(f"{path[:100]!r} is not the path of a tile")

    def split(self, data: bytes) -> list[bytes]:
        """Its hashes. Raises ValueError if the bytes are not as many."""
        if len(data) != self.width * HASH_BYTES:
            raise ValueError(self.wrong_length(data))
        return _split(data)

    def wrong_length(self, data: bytes) -> str:
        """Words for bytes that are too few or too many."""
        return f"{self.path} has {len(data)} bytes instead of {self.width * HASH_BYTES}"


def tiles_of(size: int) -> Iterator[Tile]:
    """All tiles of a tree with `size` leaves, by level and number."""
    return tiles_between(0, size)


def tiles_between(old: int, new: int) -> Iterator[Tile]:
    """Tiles that a tree of `new` leaves has and one of `old` had not, or not as wide.

    What a copy outside has to write when the tree has grown.
    """
    level = 0
    while new >> (_BITS * level):
        before, after = old >> (_BITS * level), new >> (_BITS * level)
        for number in range(before // TILE_WIDTH, after // TILE_WIDTH):
            yield Tile(level, number)
        if after % TILE_WIDTH and after != before:
            yield Tile(level, after // TILE_WIDTH, after % TILE_WIDTH)
        level += 1


def tile_at(level: int, number: int, size: int) -> Tile | None:
    """The tile at a place in a tree of `size` leaves, as wide as it is there; None if not there."""
    width = min(TILE_WIDTH, (size >> (_BITS * level)) - number * TILE_WIDTH)
    return Tile(level, number, width) if width > 0 else None


class MissingTileError(ValueError):
    """A tile is not at hand, or not as long as it must be."""


class TileHashes:
    """Heads of a tree's ranges, out of tiles.

    Parameters
    ----------
    size
        Leaves of the tree.
    fetch
        Bytes of a tile, or None. It is asked anew each time.
    """

    def __init__(self, size: int, fetch: Callable[[Tile], bytes | None]) -> None:
        self.size, self._fetch = size, fetch

    def hashes(self, level: int, number: int) -> list[bytes]:
        """Hashes of one tile.

        Raises
        ------
        MissingTileError
            There is none, or not as wide as a tree of this size has it.
        """
        return _split(self.data(level, number))

    def data(self, level: int, number: int) -> bytes:
        """Bytes of one tile. Raises as `hashes` does."""
        tile = tile_at(level, number, self.size)
        data = None if tile is None else self._fetch(tile)
        if tile is None or data is None:
            raise MissingTileError(f"there is no tile {number} of level {level}")
        if len(data) != tile.width * HASH_BYTES:
            raise MissingTileError(tile.wrong_length(data))
        return data

    def range_hash(self, start: int, end: int) -> bytes:
        """As `merkle.RangeHash` has it. Raises as `hashes` does."""
        level = ((end - start).bit_length() - 1) // _BITS
        first, count = start >> (_BITS * level), (end - start) >> (_BITS * level)
        at = first % TILE_WIDTH
        hashes = self.hashes(level, first // TILE_WIDTH)[at : at + count]
        if len(hashes) != count:
            raise MissingTileError(f"the tree has no leaves {start} to {end}")
        return root_of(hashes)

    def frontier(self) -> Frontier:
        """All that appending to the tree takes. Raises as `hashes` does."""
        heads, start = [], 0
        for bit in reversed(range(self.size.bit_length())):
            if self.size >> bit & 1:
                heads.append(self.range_hash(start, start + (1 << bit)))
                start += 1 << bit
        return Frontier(self.size, heads)


def _split(data: bytes) -> list[bytes]:
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]
