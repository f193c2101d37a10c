"""The end of the log's tree: of each level of tiles the last, unfinished one.

That is all that appending takes. Tiles that become full are handed out, to be kept elsewhere; with
them and what is here, any head and proof is found without hashing a leaf twice.

It must not: do I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from .merkle import HASH_BYTES, Frontier, fold, root_of
from .tiles import TILE_WIDTH, Tile

_BITS = TILE_WIDTH.bit_length() - 1


class TileTree:
    """A tree of `size` leaves.

    Parameters
    ----------
    unfinished
        Hashes of the last tile of each level, from level 0; fewer than 256 each.
    """

    def __init__(self, size: int = 0, unfinished: Iterable[Iterable[bytes]] = ()) -> None:
        self.size = size
        self._unfinished = [list(hashes) for hashes in unfinished] or [[]]
        for level, hashes in enumerate(self._unfinished):
            if len(hashes) != count_hashes(size, level) % TILE_WIDTH:
                raise ValueError(f"level {level} of {size} leaves does not end so")

    def copy(self) -> TileTree:
        """Another that goes on from here."""
        return TileTree(self.size, self._unfinished)

    def append(self, leaf: bytes) -> list[tuple[Tile, bytes]]:
        """Add the hash of a leaf. Returns the tiles that are full by that, mostly none."""
        return self.extend([leaf])

    def extend(self, leaves: Sequence[bytes]) -> list[tuple[Tile, bytes]]:
        """The same of several, in order."""
        full: list[tuple[Tile, bytes]] = []
        at = 0
        while at < len(leaves):
            hashes = self._unfinished[0]
            some = leaves[at : at + TILE_WIDTH - len(hashes)]
            hashes.extend(some)
            self.size += len(some)
            at += len(some)
            if len(hashes) == TILE_WIDTH:
                full += self._finish()
        return full

    def fetch(self, tile: Tile, load: Callable[[int, int], bytes | None]) -> bytes | None:
        """Bytes of a tile that this tree has, or of a narrower one that it had.

        Parameters
        ----------
        load
            Gives a full tile by level and number, None if it is not there.
        """
        there = count_hashes(self.size, tile.level)
        first = tile.number * TILE_WIDTH
        if first + tile.width > there:
            return None
        if first + TILE_WIDTH > there:
            return b"".join(self._unfinished[tile.level][: tile.width])
        full = load(tile.level, tile.number)
        return None if full is None else full[: tile.width * HASH_BYTES]

    def frontier(self) -> Frontier:
        """What any other program needs to go on."""
        heads = []
        for hashes in reversed(self._unfinished):
            start = 0
            for bit in reversed(range(_BITS)):
                if len(hashes) >> bit & 1:
                    heads.append(root_of(hashes[start : start + (1 << bit)]))
                    start += 1 << bit
        return Frontier(self.size, heads)

    def _finish(self) -> list[tuple[Tile, bytes]]:
        full = []
        level = 0
        while len(self._unfinished[level]) == TILE_WIDTH:
            hashes = self._unfinished[level]
            number = count_hashes(self.size, level) // TILE_WIDTH - 1
            full.append((Tile(level, number), b"".join(hashes)))
            self._unfinished[level] = []
            level += 1
            if level == len(self._unfinished):
                self._unfinished.append([])
            self._unfinished[level].append(fold(hashes))
        return full


def count_hashes(size: int, level: int) -> int:
    """Number of hashes that a level has in a tree of `size` leaves."""
    return size >> (level * _BITS)
