"""The tree of a log that is checked: its heads, and where its leaves are not the signed ones.

Tiles from anywhere, also from the database that is checked, can be trusted as far as they lead to a
head that somebody signed: `TrustedTiles` finds out from the top down. Against them each leaf is
right or wrong by itself; where there are none, only heads tell, and between which two.

It must not: read tiles (it asks through functions), or know what an event says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from .audit_difference import Differences
from .audit_finding import Findings, Kind
from .merkle import EMPTY_ROOT, HASH_BYTES, Frontier, fold, root_over
from .tiles import TILE_WIDTH, MissingTileError, Tile, TileHashes

Fetch = Callable[[Tile], bytes | None]
"""Bytes of a tile as wide as asked, or None."""

_NO_HASH: Final = bytes(HASH_BYTES)
_TILE_BYTES: Final = TILE_WIDTH * HASH_BYTES


class TrustedTiles:
    """Tiles that lead to a head.

    Raises
    ------
    MissingTileError
        Those at its right edge do not, or are not there.
    """

    def __init__(self, size: int, root: bytes, fetch: Fetch) -> None:
        self.size = size
        self._tiles = TileHashes(size, fetch)
        if self._tiles.frontier().root() != root:
            raise MissingTileError("the tiles do not lead to the head")
        self._last: dict[int, tuple[int, list[bytes]]] = {}  # of each level, for whoever goes on

    def leaves(self, number: int, known: tuple[bytes, bytes] = (b"", b"")) -> bytes:
        """Hashes of the leaves in a tile of level 0.

        Parameters
        ----------
        known
            A tile and its head: if it is this one, its head is not worked out again.

        Raises
        ------
        MissingTileError
            The tile is not there, or does not lead to the head.
        """
        data = self._tiles.data(0, number)
        if len(data) == _TILE_BYTES:
            tile, head = known
            if not head or tile != data:
                head = fold(_split(data))
            if head != self.head(number):
                raise MissingTileError(f"tile {number} does not lead to the head")
        return data

    def head(self, number: int) -> bytes:
        """Head of a full tile of level 0. Raises MissingTileError."""
        if (number + 1) * TILE_WIDTH > self.size:
            raise MissingTileError("the tile is not full under this head")
        return self._hashes(1, number // TILE_WIDTH)[number % TILE_WIDTH]

    def _hashes(self, level: int, number: int) -> list[bytes]:
        last = self._last.get(level)
        if last is not None and last[0] == number:
            return last[1]
        hashes = self._tiles.hashes(level, number)
        # What is partial lies at the right edge, which was checked.
        if len(hashes) == TILE_WIDTH:
            above = self._hashes(level + 1, number // TILE_WIDTH)
            if fold(hashes) != above[number % TILE_WIDTH]:
                raise MissingTileError(f"tile {number} of level {level} does not lead to the head")
        self._last[level] = (number, hashes)
        return hashes


class DerivedTiles:
    """Tiles of any width, out of full ones and of leaves: a log keeps no more.

    Parameters
    ----------
    full
        Bytes of a full tile by level and number, or None.
    leaf_hashes
        Hashes of leaves start..end-1; fewer if some are missing.
    """

    def __init__(
        self,
        full: Callable[[int, int], bytes | None],
        leaf_hashes: Callable[[int, int], list[bytes]],
    ) -> None:
        self._full, self._leaf_hashes = full, leaf_hashes
        self._folded: dict[tuple[int, int], bytes | None] = {}

    def fetch(self, tile: Tile) -> bytes | None:
        """As `Fetch`."""
        full = self._full(tile.level, tile.number)
        if full is not None:
            return full[: tile.width * HASH_BYTES]
        first = tile.number * TILE_WIDTH
        if tile.level == 0:
            return b"".join(self._leaf_hashes(first, first + tile.width))
        below = [self._fold(tile.level - 1, first + at) for at in range(tile.width)]
        return None if None in below else b"".join(filter(None, below))

    def _fold(self, level: int, number: int) -> bytes | None:
        key = (level, number)
        if key not in self._folded:
            data = self._full(level, number)
            is_whole = data is not None and len(data) == TILE_WIDTH * HASH_BYTES
            if len(self._folded) > 4 * TILE_WIDTH:
                self._folded.clear()
            self._folded[key] = fold(Tile(level, number).split(data)) if data and is_whole else None
        return self._folded[key]


class LogTree:
    """Grows a log's tree tile by tile and compares it on the way.

    Where signed tiles reach, the tree is grown of them, so that one edited event does not hide what
    comes after it.

    Parameters
    ----------
    trusted
        Tiles under signed heads; for each leaf the first that reach it count.
    claimed
        Full tiles as the log itself keeps them, by level and number. None: it keeps none.
    sizes
        Of the trees whose heads are wanted.

    Attributes
    ----------
    roots
        Heads that could be told, by size.
    signed_to
        Up to here the tree is that of signed tiles, whatever the events say.
    broken_at
        The first event whose hash nobody knows; no later head can be told.
    """

    def __init__(
        self,
        trusted: Iterable[TrustedTiles],
        claimed: Callable[[int, int], bytes | None] | None,
        sizes: Iterable[int],
    ) -> None:
        self.roots: dict[int, bytes] = {}
        self.findings = Findings()
        self.broken_at: int | None = None
        self.size = self.signed_to = 0
        self._trusted, self._claimed = list(trusted), claimed
        self._wanted = sorted(set(sizes), reverse=True)
        self._frontier = Frontier()  # over heads of full tiles of level 0
        self._unfinished: list[list[bytes]] = [[]]  # of each level, from 1
        self._differences = Differences(self.findings)
        if self._wanted and self._wanted[-1] == 0:
            self.roots[self._wanted.pop()] = EMPTY_ROOT

    def skip(self, until: int) -> None:
        """Leaves 0..until-1 are not there; tiles stand for them. `until` is a multiple of 256."""
        for _ in range(until // TILE_WIDTH):
            self._add_tile(_NO_HASH * TILE_WIDTH, frozenset(range(TILE_WIDTH)), b"")

    def add(self, leaves: bytes, holes: Iterable[int] = (), heads: Iterable[bytes] = ()) -> None:
        """The next leaves, from the beginning of a tile; only the last time not to the end of one.

        Parameters
        ----------
        leaves
            Hashes, one after the other.
        holes
            Sequences that are not there.
        heads
            Of the full tiles, where they are known already.
        """
        base, gone, known = self.size, list(holes), iter(heads)
        for at in range(0, len(leaves), _TILE_BYTES):
            first = base + at // HASH_BYTES + 1
            missing = frozenset(n - first for n in gone if first <= n < first + TILE_WIDTH)
            self._add_tile(leaves[at : at + _TILE_BYTES], missing, next(known, b""))

    def finish(self) -> None:
        """No more leaves come."""
        self._differences.finish()

    def _add_tile(self, own: bytes, holes: frozenset[int], head: bytes) -> None:
        base, width = self.size, len(own) // HASH_BYTES
        if width == TILE_WIDTH and not holes and not head:
            head = fold(_split(own))
        right = self._right_leaves(base // TILE_WIDTH, own, head)
        claimed = self._claim(0, base // TILE_WIDTH) if width == TILE_WIDTH else None
        leaves = own
        is_right = not holes and own.startswith(right) and (claimed is None or claimed == own)
        if not is_right:
            self._differences.add(base, _split(own), _split(right), holes)
            leaves, head = self._merge(base, own, right, claimed, holes), b""
        self._tell_heads(leaves)
        self.size += width
        if self.signed_to == base:
            self.signed_to += len(right) // HASH_BYTES
        if width == TILE_WIDTH:
            head = head or fold(_split(leaves))
            if len(right) != len(own):
                head = self._right_head(base, head)
            self._frontier.append(head)
            self._grow(head)

    def _right_head(self, base: int, head: bytes) -> bytes:
        """The signed head of a tile, if there is one, whose leaves nobody has from outside."""
        for tiles in self._trusted:
            try:
                right = tiles.head(base // TILE_WIDTH)
            except MissingTileError:
                continue
            if right != head:
                first, last = base + 1, base + TILE_WIDTH
                text = (
                    f"Between event {first} and {last} something was edited, taken out, put in or"
                    " moved: their signed head does not fit."
                )
                self.findings.add_between(Kind.CHANGED, first, last, text)
            return right
        return head

    def _right_leaves(self, number: int, own: bytes, head: bytes) -> bytes:
        """Signed hashes of a tile's leaves, as far as any reach."""
        found = b""
        for tiles in self._trusted:
            if (
                len(found) < len(own)
                and number * TILE_WIDTH + len(found) // HASH_BYTES < tiles.size
            ):
                try:
                    found += tiles.leaves(number, (own, head))[len(found) : len(own)]
                except MissingTileError:
                    continue
        return found

    def _claim(self, level: int, number: int) -> bytes | None:
        """A full tile that the log keeps."""
        if self._claimed is None:
            return None
        found = self._claimed(level, number)
        if found is not None and len(found) == _TILE_BYTES:
            return found
        span = TILE_WIDTH ** (level + 1)
        first, last = number * span + 1, (number + 1) * span
        text = f"The log does not keep the hashes of events {first} to {last} (level {level})."
        self.findings.add(Kind.TILE, first, text, last)
        return None

    def _merge(
        self, base: int, own: bytes, right: bytes, claimed: bytes | None, holes: frozenset[int]
    ) -> bytes:
        """The most credible hash of each leaf: signed, then of the event, then what is claimed."""
        merged = []
        hashes, signed, kept = _split(own), _split(right), _split(claimed or b"")
        suspect = None
        for at, found in enumerate(hashes):
            if at < len(signed):
                merged.append(signed[at])
            elif at not in holes:
                merged.append(found)
            elif kept:
                merged.append(kept[at])
            else:
                merged.append(_NO_HASH)
                self.broken_at = self.broken_at or base + at + 1
            if kept and kept[at] != merged[at] and suspect is None:
                suspect = at
        if suspect is not None:
            sequence = base + suspect + 1
            if suspect < len(signed):
                text = f"The hash that the log keeps of event {sequence} is not the one signed."
                self.findings.add(Kind.TILE, sequence, text)
            else:
                text = f"Event {sequence} was edited, or the hash was that the log keeps of it."
                self.findings.add(Kind.EDITED, sequence, text)
        return b"".join(merged)

    def _tell_heads(self, leaves: bytes) -> None:
        """Heads of the wanted sizes that end in this tile."""
        upto = self.size + len(leaves) // HASH_BYTES
        if self.broken_at is not None:
            upto = min(upto, self.broken_at - 1)
        if not self._wanted or self._wanted[-1] > upto:
            return
        hashes = _split(leaves)
        known: dict[tuple[int, int], bytes] = {}  # heads over some of them
        while self._wanted and self._wanted[-1] <= upto:
            size = self._wanted.pop()
            heads, at, end = list(self._frontier.heads), 0, size - self.size
            while at < end:
                width = 1 << ((end - at).bit_length() - 1)
                if (at, width) not in known:
                    known[at, width] = fold(hashes[at : at + width])
                heads.append(known[at, width])
                at += width
            self.roots[size] = root_over(heads)

    def _grow(self, head: bytes) -> None:
        """A tile of level 0 is full: maybe one above it, too."""
        level = 1
        self._unfinished[0].append(head)
        while len(self._unfinished[level - 1]) == TILE_WIDTH:
            hashes = self._unfinished[level - 1]
            number = self.size // TILE_WIDTH ** (level + 1) - 1
            claimed = None if self.broken_at is not None else self._claim(level, number)
            if claimed is not None and claimed != b"".join(hashes):
                span = TILE_WIDTH ** (level + 1)
                first, last = number * span + 1, (number + 1) * span
                text = (
                    f"The hashes that the log keeps of events {first} to {last} (level {level}) are"
                    " not theirs."
                )
                self.findings.add(Kind.TILE, first, text, last)
            self._unfinished[level - 1] = []
            if level == len(self._unfinished):
                self._unfinished.append([])
            self._unfinished[level].append(fold(hashes))
            level += 1


def _split(data: bytes) -> list[bytes]:
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]
