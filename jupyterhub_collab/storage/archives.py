"""Where copies of volumes are kept: what any such place can do, and a folder as one.

A copy is received into a file beside the place, hashed on the way, and kept only when its footer
says the same: what was cut off or changed on its way never comes near the copies. A small note
beside each copy (``<key>.json``) says what it is and until when it is kept; it is written last, so
that a copy without one is none. Of two that bring the same copy the first note counts.

Whoever receives a copy holds a lock on its file for as long as they live. A file that nobody holds
is what somebody left who was killed.

It must not: look into a copy, or decide how long it is kept; open, close or flush a file on the
event loop.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from ..constants import ARCHIVE_FOOTER_BYTES
from ..errors import PermanentError, RetryableError

PIECE_BYTES: Final = 1 << 20  # read and written at once
_KEY: Final = re.compile(r"[a-z0-9][a-z0-9.-]*(/[a-z0-9][a-z0-9.-]*)*")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_INCOMING: Final = ".incoming"
_NAME: Final = re.compile(r"[0-9a-f]{32}")  # of a file that is being received
_LOCK: Final = "lock"
_YOUNG_S: Final = 60.0  # younger than this it may be about to be locked
_OLD_S: Final = 24 * 3600.0  # older than this it is nobody's, where files cannot be locked
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
log = logging.getLogger(__name__)


class CutOffError(RetryableError):
    """The copy ended before its footer, or the footer says something else. Nothing was kept."""


class TooLargeError(PermanentError):
    """The copy is larger than this service takes. Nothing was kept."""


class KeptError(PermanentError):
    """This copy is kept already; its token is spent."""

    def __init__(self) -> None:
        super().__init__("This copy is kept already.")


class NoteError(PermanentError):
    """What a note says cannot be used. Its copy is left alone."""


@dataclass(frozen=True)
class StoredArchive:
    """A copy in its place.

    Attributes
    ----------
    key
        Such as ``reef/ocean.0123456789abcdef.7.tar``.
    size
        In bytes.
    sha256
        Of the whole copy, 64 hex digits.
    files, missed
        How many files are in it, and how many entries of the volume could not be copied; the
        manifest in it names them.
    version
        As the place has it, where it keeps several of one key.
    """

    key: str
    size: int
    sha256: str
    at: datetime
    files: int = 0
    missed: int = 0
    keep_until: datetime | None = None
    version: str = ""

    def to_text(self) -> str:
        """As `from_text` takes it."""
        said = asdict(self)
        said["at"] = self.at.isoformat()
        said["keep_until"] = None if self.keep_until is None else self.keep_until.isoformat()
        return json.dumps(said, sort_keys=True)

    @classmethod
    def from_text(cls, text: str | bytes) -> StoredArchive:
        """Raises ValueError."""
        try:
            said = json.loads(text)
            until = said.pop("keep_until")
            found = cls(
                **{
                    **said,
                    "at": datetime.fromisoformat(said["at"]),
                    "keep_until": None if until is None else datetime.fromisoformat(until),
                }
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a note of a copy: {error!r}") from error
        numbers = (found.size, found.files, found.missed)
        texts = (found.key, found.sha256, found.version)
        times = (found.at, found.at if found.keep_until is None else found.keep_until)
        if not (
            all(type(number) is int and number >= 0 for number in numbers)
            and all(isinstance(text, str) for text in texts)
            and _SHA256.fullmatch(found.sha256)
            and all(moment.tzinfo is not None for moment in times)
        ):
            raise ValueError("not a note of a copy: a field is not what it should be")
        return found


class Incoming:
    """A copy that is being received into a file (`open`). `close` it, whatever happens.

    Parameters
    ----------
    bytes_max
        Of the copy, without its footer.
    """

    def __init__(self, path: Path, file: BinaryIO, *, bytes_max: int) -> None:
        self.path, self.size = path, 0
        self._file, self._using = file, threading.Lock()
        self._digest, self._held, self._bytes_max = hashlib.sha256(), bytearray(), bytes_max

    @classmethod
    async def open(cls, folder: Path, *, bytes_max: int) -> Incoming:
        """A new file in this folder, which is made. Raises OSError."""
        path = folder / secrets.token_hex(16)
        return cls(path, await asyncio.to_thread(_open_new, path), bytes_max=bytes_max)

    async def write(self, data: bytes) -> None:
        """Take the next piece.

        Raises
        ------
        TooLargeError, RetryableError
            There are too many, or they cannot be written.
        """
        self._held += data
        if self.size + len(self._held) > self._bytes_max + ARCHIVE_FOOTER_BYTES:
            raise TooLargeError(
                f"The copy has more than {self._bytes_max} bytes, which is what this service takes."
            )
        if len(self._held) >= PIECE_BYTES + ARCHIVE_FOOTER_BYTES:
            await self._store(len(self._held) - ARCHIVE_FOOTER_BYTES)

    async def finish(self, key: str, *, at: datetime) -> StoredArchive:
        """What was received, if it is what its footer says.

        Raises
        ------
        CutOffError, RetryableError
        """
        await self._store(max(0, len(self._held) - ARCHIVE_FOOTER_BYTES))
        sha256 = self._digest.hexdigest()
        try:
            said = json.loads(bytes(self._held))
            told = {name: said[name] for name in ("sha256", "bytes", "files", "missed")}
        except (ValueError, KeyError, TypeError) as error:
            raise CutOffError("The copy was cut off: it has no footer. Send it again.") from error
        numbers = [told[name] for name in ("bytes", "files", "missed")]
        is_right = all(type(number) is int and number >= 0 for number in numbers)
        if not is_right or (told["sha256"], told["bytes"]) != (sha256, self.size):
            raise CutOffError(
                f"The copy is not what its footer says: {self.size} bytes with the checksum "
                f"{sha256} came. Send it again."
            )
        try:
            await asyncio.to_thread(self._flush)
        except OSError as error:
            raise RetryableError(f"The copy cannot be stored: {error.strerror}") from error
        return StoredArchive(key, self.size, sha256, at, files=told["files"], missed=told["missed"])

    async def close(self) -> None:
        """Forget what was not kept."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._using:  # a write that is under way ends before its file does
            with suppress(FileNotFoundError):
                self.path.unlink()
            self._file.close()

    def _flush(self) -> None:
        with self._using:
            if not self._file.closed:
                os.fsync(self._file.fileno())

    async def _store(self, count: int) -> None:
        data = bytes(self._held[:count])
        del self._held[:count]
        self.size += count
        try:
            await asyncio.to_thread(self._put, data)
        except OSError as error:
            raise RetryableError(f"The copy cannot be stored: {error.strerror}") from error

    def _put(self, data: bytes) -> None:
        with self._using:
            if self._file.closed:  # who brought it is gone
                return
            self._digest.update(data)
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) or 0 :]


def _open_new(path: Path) -> BinaryIO:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _lock(opened)
    except BaseException:
        os.close(opened)
        raise
    return open(opened, "wb", buffering=0)


def _lock(opened: int, *, is_waiting: bool = True) -> bool:
    """Lock a file until it is closed; whether it can be. False too where nothing can be locked."""
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | (0 if is_waiting else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in (*_NO_LOCKS, errno.EWOULDBLOCK):
            raise
        return False
    return True


def remove_leftovers(folder: Path) -> int:
    """Remove files of copies that nobody is receiving any more; how many. Raises OSError."""
    count = 0
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not _NAME.fullmatch(path.name) or path.is_symlink():
            continue
        try:
            opened = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            age_s = time.time() - os.fstat(opened).st_mtime
            if age_s > _OLD_S or (age_s > _YOUNG_S and _lock(opened, is_waiting=False)):
                path.unlink(missing_ok=True)
                count += 1
        finally:
            os.close(opened)
    return count


class ArchivePlace(Protocol):
    """A place for copies. Every method raises RetryableError or PermanentError where it fails.

    Attributes
    ----------
    name
        As people know it; stands in the registry and in the certificate.
    """

    name: str

    async def receive(self, *, bytes_max: int) -> Incoming:
        """A file for a copy that comes in."""

    async def keep(self, incoming: Incoming, stored: StoredArchive) -> StoredArchive:
        """Keep what was received. Raises KeptError: of two the other was faster."""

    async def find(self, key: str) -> StoredArchive | None:
        """What is kept under a key; None where only its note is left, too."""

    def read(self, stored: StoredArchive) -> AsyncGenerator[bytes, None]:
        """Its bytes, in pieces: of the very version that was kept, where there are several."""

    async def delete(self, stored: StoredArchive) -> None:
        """Delete it for good; nothing happens where it is gone, or another was kept since."""

    async def all(
        self, *, on_unreadable: Callable[[str], None] | None = None
    ) -> tuple[StoredArchive, ...]:
        """Everything that is kept here, by key. A note that cannot be read is told and passed."""

    async def clear(self) -> int:
        """Remove what uploads left that were killed; how many."""

    async def close(self) -> None:
        """Let go of connections."""


def check_key(key: str) -> str:
    """The key. Raises ValueError for one that no copy has."""
    if not _KEY.fullmatch(key) or ".." in key:
        raise ValueError(f"{key!r} is not a copy's key")
    return key


class ArchiveFolder:
    """A folder, of a network file system perhaps. One process writes in it at a time."""

    def __init__(self, root: Path, name: str = "folder") -> None:
        self.name, self._root = name, root

    async def receive(self, *, bytes_max: int) -> Incoming:
        try:
            return await Incoming.open(self._root / _INCOMING, bytes_max=bytes_max)
        except OSError as error:
            raise _cannot("be written", error) from error

    async def keep(self, incoming: Incoming, stored: StoredArchive) -> StoredArchive:
        try:
            await asyncio.to_thread(self._keep, incoming.path, stored)
        except OSError as error:
            raise _cannot("be written", error) from error
        return stored

    def _keep(self, source: Path, stored: StoredArchive) -> None:
        path = self._path(stored.key)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        note, partial = _note_of(path), source.with_name(secrets.token_hex(16))
        with _alone(source.with_name(_LOCK)):
            if note.exists():
                if self._find_whole(stored.key) is not None:
                    raise KeptError
                note.unlink()  # of a copy that was lost since
            os.replace(source, path)  # where one lies it has no note: its bringer was killed
            _flush_folder(path.parent)
            try:
                with partial.open("x", encoding="utf-8") as file:
                    file.write(stored.to_text())
                    file.flush()
                    os.fsync(file.fileno())
                _place(partial, note)
            except FileExistsError:
                raise KeptError from None
            finally:
                partial.unlink(missing_ok=True)
            for folder in (path.parent, self._root):
                _flush_folder(folder)

    async def find(self, key: str) -> StoredArchive | None:
        return await asyncio.to_thread(self._find_whole, check_key(key))

    def _find_whole(self, key: str) -> StoredArchive | None:
        found = self._find(key)
        try:
            is_whole = found is not None and self._path(key).stat().st_size == found.size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _cannot("be read", error) from error
        return found if is_whole else None

    def _find(self, key: str) -> StoredArchive | None:
        note = _note_of(self._root / key)
        try:
            return read_note(note.read_bytes(), key)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise NoteError(f"The note {note} cannot be read: {error.strerror}") from error

    async def read(self, stored: StoredArchive) -> AsyncGenerator[bytes, None]:
        file: BinaryIO | None = None
        try:
            file = await asyncio.to_thread(self._path(stored.key).open, "rb")
            while data := await asyncio.to_thread(file.read, PIECE_BYTES):
                yield data
        except OSError as error:
            raise _cannot("be read", error) from error
        finally:
            if file is not None:
                await asyncio.to_thread(file.close)

    async def delete(self, stored: StoredArchive) -> None:
        try:
            await asyncio.to_thread(self._delete, stored)
        except OSError as error:
            raise _cannot("be deleted", error) from error

    def _delete(self, stored: StoredArchive) -> None:
        path, incoming = self._path(stored.key), self._root / _INCOMING
        incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(incoming / _LOCK):
            if self._find(stored.key) in (stored, None):
                # The note last: while it is there the sweep finds what a killed one left.
                for gone in (path, _note_of(path)):
                    with suppress(FileNotFoundError):
                        gone.unlink()

    async def all(
        self, *, on_unreadable: Callable[[str], None] | None = None
    ) -> tuple[StoredArchive, ...]:
        try:
            return await asyncio.to_thread(self._all, on_unreadable)
        except OSError as error:
            raise _cannot("be read", error) from error

    def _all(self, on_unreadable: Callable[[str], None] | None) -> tuple[StoredArchive, ...]:
        notes = sorted(self._root.glob("*/*.tar.json")) if self._root.exists() else []
        keys = (str(note.relative_to(self._root)).removesuffix(".json") for note in notes)
        return tuple(readable(keys, self._find, on_unreadable))

    async def clear(self) -> int:
        try:
            return await asyncio.to_thread(remove_leftovers, self._root / _INCOMING)
        except OSError as error:
            raise _cannot("be cleared", error) from error

    async def close(self) -> None:
        """Nothing is open."""

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)


def read_note(text: bytes, key: str) -> StoredArchive:
    """What a note beside this copy says. Raises NoteError."""
    try:
        found = StoredArchive.from_text(text)
    except ValueError as error:
        raise NoteError(f"The note of the copy {key} cannot be read: {error}") from error
    if found.key != key:  # whoever follows it would delete another copy
        raise NoteError(f"The note of the copy {key} speaks of another one.")
    return found


def readable(
    keys: Iterator[str],
    find: Callable[[str], StoredArchive | None],
    on_unreadable: Callable[[str], None] | None,
) -> Iterator[StoredArchive]:
    """Those of these copies whose notes can be read; the others are told."""
    for key in keys:
        try:
            found = find(key)
        except NoteError as error:
            log.error("A copy is left alone: %s", error)
            if on_unreadable is not None:
                on_unreadable(key)
        else:
            if found is not None:
                yield found


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Nobody else is in here, in whatever process, as long as files can be locked."""
    opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(opened)
        yield
    finally:
        os.close(opened)


def _place(partial: Path, note: Path) -> None:
    """Give a file its name, which nobody has. Raises FileExistsError."""
    try:
        os.link(partial, note)
    except OSError as error:
        if error.errno not in (errno.EPERM, *_NO_LOCKS):
            raise
        os.replace(partial, note)  # a file system without links; whoever is here is alone


def _flush_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _note_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _cannot(what: str, error: OSError) -> RetryableError:
    return RetryableError(f"The archives' folder cannot {what}: {error.strerror}")


def kept_until(stored: StoredArchive, moment: datetime | None) -> StoredArchive:
    """The same copy, kept until then; None: for ever."""
    return replace(stored, keep_until=moment)
