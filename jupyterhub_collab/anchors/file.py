"""A folder on another volume, in the layout of C2SP tlog-tiles.

``checkpoint`` (the newest), ``checkpoints/<size>`` (each), ``tile/<level>/<number>``: what tools of
other logs read, and enough to name the first event that was changed. The newest checkpoint is
written last, so that what it needs is always there.

It must not: make the folder itself (a volume that is not mounted would be filled beside it), or
overwrite what says something else: that is the evidence.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path
from typing import Final

from ..errors import RetryableError
from ..policy.tiles import TILE_WIDTH, Tile
from .anchor import Delivery, ForkError
from .files import make_folders, sync_folder, write_whole

_NEWEST: Final = "checkpoint"
_NOTES: Final = "checkpoints"
_TILES: Final = "tile"
_NOTE_BYTES_MAX: Final = 8192


class FileAnchor:
    """As `Anchor` has it."""

    def __init__(self, name: str, folder: Path, *, interval_s: float = 0.0) -> None:
        self.name, self.interval_s = name, interval_s
        self._folder = folder

    async def deliver(self, delivery: Delivery) -> None:
        await asyncio.to_thread(self._deliver, delivery)

    async def newest(self) -> str | None:
        return await asyncio.to_thread(self._read_newest)

    async def set_aside(self) -> None:
        await asyncio.to_thread(self._set_aside)

    async def close(self) -> None:
        pass

    def _deliver(self, delivery: Delivery) -> None:
        held = self._read_newest()
        held_size = 0 if held is None else _size_of(held)
        if held == delivery.note:
            return
        if held_size >= delivery.size:
            raise ForkError(
                f"the folder {self._folder} holds a checkpoint of {held_size} events, and this"
                f" one is of {delivery.size}"
            )
        try:
            filled = []
            for tile, data in delivery.read_tiles(held_size):
                self._put(tile.path, data)
                if tile.width == TILE_WIDTH:
                    filled.append(tile)
            for size, note in (*delivery.earlier, (delivery.size, delivery.note)):
                self._put(f"{_NOTES}/{size}", note.encode())
            write_whole(self._folder / _NEWEST, delivery.note.encode())
        except OSError as e:
            raise self._cannot(e, "written") from e
        for tile in filled:
            self._drop_partial(tile)

    def _put(self, path: str, data: bytes) -> None:
        """Write once; what is there already must be the same. Raises OSError."""
        file = self._folder / path
        try:
            if file.read_bytes() == data:
                return
        except FileNotFoundError:
            make_folders(file.parent, below=self._folder)
            write_whole(file, data)
            return
        raise ForkError(
            f"{file} is there and says something else; it is left as it is. Look at it with"
            " `jupyterhub-collab audit verify`"
        )

    def _drop_partial(self, tile: Tile) -> None:
        """What a full tile holds besides. A folder in which nothing may be deleted keeps it."""
        with contextlib.suppress(OSError):
            shutil.rmtree(self._folder / f"{tile.path}.p")

    def _read_newest(self) -> str | None:
        try:
            if not self._folder.is_dir():
                raise RetryableError(
                    f"The folder {self._folder} is not there. Mount the volume that holds it, or"
                    " make it if it is new"
                )
            with (self._folder / _NEWEST).open("rb") as file:
                return file.read(_NOTE_BYTES_MAX).decode("utf-8", "replace")
        except FileNotFoundError:
            return None
        except OSError as e:
            raise self._cannot(e, "read") from e

    def _set_aside(self) -> None:
        try:
            kept = [self._folder / name for name in (_NEWEST, _NOTES, _TILES)]
            if not any(path.exists() for path in kept):
                return
            number = 1
            while (self._folder / f"set-aside-{number}").exists():
                number += 1
            aside = self._folder / f"set-aside-{number}"
            aside.mkdir()
            for path in kept:
                if path.exists():
                    path.rename(aside / path.name)
            sync_folder(self._folder)
        except OSError as e:
            raise self._cannot(e, "changed") from e

    def _cannot(self, error: OSError, what: str) -> RetryableError:
        return RetryableError(f"The folder {self._folder} cannot be {what}: {error.strerror}")


def _size_of(note: str) -> int:
    """How many events a note says; its signature is checked elsewhere."""
    lines = note.split("\n", 2)
    try:
        return int(lines[1])
    except (IndexError, ValueError) as e:
        raise ForkError("the folder's newest checkpoint cannot be read; look at it") from e
