"""Files of the audit log that somebody was given: bundles, and folders of anchors.

They may come from anybody. Nothing is unpacked; only names that a bundle has are opened; what is
longer than it can be is not read. What goes wrong is a sentence.

It must not: believe anything that it reads.
"""

from __future__ import annotations

import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Final, TypeVar

from ..errors import PermanentError
from ..policy.audit_bundle import (
    CHECKPOINT,
    CHECKPOINTS,
    EVENTS,
    LINE_BYTES_MAX,
    MANIFEST,
    PROOFS,
    BundleError,
    Manifest,
    read_manifest,
)
from ..policy.audit_verify import Note
from ..policy.merkle import HASH_BYTES
from ..policy.tiles import TILE_WIDTH, Tile

_NOTE_BYTES_MAX: Final = 16 * 1024
_NOTES_MAX: Final = 100_000  # the newest
_DIRECTORY_BYTES_MAX: Final = 16 * 1024 * 1024  # of a zip; a million events have 4,000 tiles
_END_BYTES: Final = 22 + 65535  # of a zip: its last record, and the longest comment
_READ_ERRORS: Final = (
    OSError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,
    RuntimeError,  # of zipfile: encrypted
)

_Files = TypeVar("_Files", bound="TileFiles")


def read_note(path: Path) -> Note:
    """A checkpoint in a file of its own. Raises PermanentError."""
    try:
        with path.open("rb") as file:
            data = file.read(_NOTE_BYTES_MAX)
    except OSError as e:
        raise PermanentError(f"{path} cannot be read: {e.strerror}.") from e
    return Note(str(path), _to_text(data))


class TileFiles:
    """Notes and tiles under one folder or in one zip, as C2SP's tlog-tiles lays them out.

    Parameters
    ----------
    path
        An anchor folder or a bundle.

    Raises
    ------
    PermanentError
        There is none, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack = ExitStack()
        self._zip: zipfile.ZipFile | None = None
        self._names: frozenset[str] = frozenset()
        if path.is_dir():
            return
        if not path.is_file():
            raise PermanentError(f"There is no folder or zip {path}.")
        try:
            _check_directory(path)
            self._zip = self._stack.enter_context(zipfile.ZipFile(path))
            self._names = frozenset(self._zip.namelist())
        except (*_READ_ERRORS, ValueError) as e:
            self._stack.close()
            raise PermanentError(f"{path} cannot be read as a zip ({type(e).__name__}).") from e

    def __enter__(self: _Files) -> _Files:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def notes(self) -> list[Note]:
        """All checkpoints, at most `_NOTES_MAX` of the largest sizes. Raises PermanentError."""
        sizes = [int(n) for n in self._list(CHECKPOINTS) if n.isdecimal() and n.isascii()]
        names = [f"{CHECKPOINTS}/{size}" for size in sorted(sizes)[-_NOTES_MAX:]]
        found = []
        for name in (CHECKPOINT, *names):
            data = self.read(name, _NOTE_BYTES_MAX)
            if data is not None:
                found.append(Note(f"{self._path}/{name}", _to_text(data)))
        return found

    def fetch(self, tile: Tile) -> bytes | None:
        """Bytes of a tile, or the beginning of a wider one. Raises PermanentError."""
        wanted = tile.width * HASH_BYTES
        full = Tile(tile.level, tile.number).path
        names = [tile.path, full]
        for width in sorted(int(w) for w in self._list(f"{full}.p") if w.isdecimal()):
            if tile.width < width < TILE_WIDTH:
                names.append(Tile(tile.level, tile.number, width).path)
        for name in names:
            data = self.read(name, TILE_WIDTH * HASH_BYTES + 1)
            if data is not None and len(data) >= wanted:
                return data[:wanted]
        return None

    def full_tile(self, level: int, number: int) -> bytes | None:
        """A full tile. Raises PermanentError."""
        return self.read(Tile(level, number).path, TILE_WIDTH * HASH_BYTES + 1)

    def has(self, name: str) -> bool:
        """Whether there is a file, or one in a folder, of this name."""
        if self._zip is not None:
            return name in self._names or any(n.startswith(f"{name}/") for n in self._names)
        return (self._path / name).exists()

    def read(self, name: str, limit: int) -> bytes | None:
        """A file's first bytes, None without such a file. Raises PermanentError."""
        try:
            with ExitStack() as stack:
                file = self._open(name, stack)
                return None if file is None else file.read(limit)
        except _READ_ERRORS as e:
            raise self._unreadable(name, e) from e

    def lines(self, name: str) -> Iterator[bytes]:
        """Lines of a file, without their ends. Raises PermanentError: no such file, a long line."""
        try:
            with ExitStack() as stack:
                file = self._open(name, stack)
                if file is None:
                    raise PermanentError(f"{self._path} has no {name}.")
                while line := file.readline(LINE_BYTES_MAX + 1):
                    if len(line) > LINE_BYTES_MAX:
                        raise PermanentError(
                            f"{self._path}/{name} has a line of more than {LINE_BYTES_MAX} bytes;"
                            " no event is so long."
                        )
                    yield line.removesuffix(b"\n")
        except _READ_ERRORS as e:
            raise self._unreadable(name, e) from e

    def _open(self, name: str, stack: ExitStack) -> IO[bytes] | None:
        if self._zip is not None:
            return stack.enter_context(self._zip.open(name)) if name in self._names else None
        path = self._path / name
        return stack.enter_context(path.open("rb")) if path.is_file() else None

    def _list(self, folder: str) -> list[str]:
        """Names in a folder."""
        if self._zip is not None:
            prefix = f"{folder}/"
            return [n.removeprefix(prefix) for n in self._names if n.startswith(prefix)]
        try:
            return os.listdir(self._path / folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as e:
            raise self._unreadable(folder, e) from e

    def _unreadable(self, name: str, error: BaseException) -> PermanentError:
        return PermanentError(f"{self._path}/{name} cannot be read ({type(error).__name__}).")


class Bundle(TileFiles):
    """A bundle. Raises PermanentError, also if this is none."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            data = self.read(MANIFEST, LINE_BYTES_MAX)
            if data is None:
                raise PermanentError(f"{path} is no bundle: it has no {MANIFEST}.")
            self.manifest: Manifest = read_manifest(data)
        except BundleError as e:
            self._stack.close()
            raise PermanentError(f"{path} is no bundle: {MANIFEST}: {e}.") from e
        except PermanentError:
            self._stack.close()
            raise

    def events(self) -> Iterator[bytes]:
        """Lines of events."""
        return self.lines(EVENTS)

    def proofs(self) -> Iterator[bytes]:
        """Lines of proofs."""
        return self.lines(PROOFS)


def _to_text(data: bytes) -> str:
    return data.decode(errors="replace").replace("\r\n", "\n")


def _check_directory(path: Path) -> None:
    """A zip's list of files is read whole by the library: that it is not too long. ValueError."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _END_BYTES))
        end = file.read()
    at = end.rfind(b"PK\x05\x06")
    if at < 0 or len(end) < at + 22:
        raise ValueError("no zip")
    if b"PK\x06\x07" in end[:at][-20:]:
        raise ValueError("too large a zip: unpack it, and give the folder")
    if int.from_bytes(end[at + 12 : at + 16], "little") > _DIRECTORY_BYTES_MAX:
        raise ValueError("too many files")
