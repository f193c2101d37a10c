"""What a volume's copy is, and how it is made.

The copy is one tar stream (pax), the same for the same files: entries in the order of their names,
each below ``volume/``, and after every few thousand of them a member ``manifest/NNNNNN.jsonl`` that
names each file with its SHA-256, and what could not be read, with the reason. Behind the tar comes
a footer of a fixed size with the checksum of all before it: a stream that was cut off is told from
a short one, and the service compares what it received with what was sent.

What a team's members wrote is not to be trusted: links are never followed, what is no file, folder
or link is left out and said, and a copy is unpacked without ever leaving its folder.

Standard library only: the image needs nothing but Python and these files.

Notes
-----
https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html (pax), and GNU tar's sparse
format 1.0, which both GNU tar and Python's `tarfile` unpack.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import tarfile
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from ..constants import ARCHIVE_FOOTER_BYTES

TOP: Final = "volume"  # all that was in the volume lies below it
MANIFEST: Final = "manifest"
DONE, AGAIN, NEVER = 0, 1, 2  # exit codes: whether another try may help

CHUNK_BYTES: Final = 1 << 20
_BLOCK_BYTES: Final = 512  # tar's
MANIFEST_ENTRIES: Final = 5000  # of one member: bounds what is held in memory
_MANIFEST_CHARACTERS: Final = 4 << 20  # likewise, where paths are long
_LINKS_MAX: Final = 50_000  # files of which another name is still to come; likewise
_DEPTH_MAX: Final = 500  # folders in folders; each is one open file
_GAP_BYTES: Final = 64 * 1024  # a shorter hole is copied as zeros
FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
XATTR: Final = "SCHILY.xattr."
_ERRORS: Final = "surrogateescape"  # of names that are no UTF-8

Write = Callable[[bytes], None]


def make_footer(sha256: str, *, size: int, files: int, missed: int) -> bytes:
    """What stands behind the tar: the checksum and the size, in bytes, of all before it."""
    said = {"sha256": sha256, "bytes": size, "files": files, "missed": missed}
    return json.dumps(said).encode().ljust(ARCHIVE_FOOTER_BYTES - 1) + b"\n"


class ArchiveError(Exception):
    """It failed. `code` is the exit code that says whether another try may help."""

    def __init__(self, message: str, code: int = AGAIN) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class _Frame:
    """A folder that is being copied."""

    fd: int
    path: str
    names: list[str]  # the next one last


@dataclass
class Saver:
    """Turns a folder into the stream, piece by piece."""

    write: Write
    files: int = 0
    missed: int = 0
    _lines: list[str] = field(default_factory=list)
    _members: int = 0
    _characters: int = 0
    _links: dict[tuple[int, int], tuple[str, int]] = field(default_factory=dict)

    def save(self, folder: str) -> None:
        """All of it. Raises OSError if the folder itself cannot be read."""
        fd = os.open(folder, FOLDER_FLAGS)
        self._header(TOP, os.fstat(fd), tarfile.DIRTYPE, fd=fd)
        stack = [_Frame(fd, TOP, _names_in(fd))]
        try:
            while stack:
                frame = stack[-1]
                if not frame.names:
                    os.close(stack.pop().fd)
                    continue
                below = self._copy(frame, frame.names.pop(), is_deep=len(stack) >= _DEPTH_MAX)
                if below is not None:
                    stack.append(below)
        finally:
            for frame in stack:
                os.close(frame.fd)
        self._flush()
        self.write(bytes(2 * _BLOCK_BYTES))

    def _copy(self, frame: _Frame, name: str, *, is_deep: bool) -> _Frame | None:
        """One entry; a folder's own entries come next."""
        path = f"{frame.path}/{name}"
        try:
            seen = os.stat(name, dir_fd=frame.fd, follow_symlinks=False)
            if stat.S_ISDIR(seen.st_mode):
                return self._copy_folder(frame, name, path, seen, is_deep=is_deep)
            if stat.S_ISLNK(seen.st_mode):
                target = _text(os.readlink(name, dir_fd=frame.fd))
                self._header(path, seen, tarfile.SYMTYPE, link=target)
                self._note(path, kind="symlink", target=target)
            elif stat.S_ISREG(seen.st_mode):
                self._copy_file(frame, name, path)
            else:
                self._miss(path, "it is no file, folder or link")
        except OSError as error:
            self._miss(path, error.strerror or str(error))
        return None

    def _copy_folder(
        self, frame: _Frame, name: str, path: str, seen: os.stat_result, *, is_deep: bool
    ) -> _Frame | None:
        try:
            if is_deep:
                raise OSError(errno.ELOOP, f"it lies more than {_DEPTH_MAX} folders deep")
            fd = os.open(name, FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=frame.fd)
        except OSError:
            self._header(path, seen, tarfile.DIRTYPE)
            raise
        try:
            self._header(path, seen, tarfile.DIRTYPE, fd=fd)
            return _Frame(fd, path, _names_in(fd))
        except BaseException:
            os.close(fd)
            raise

    def _copy_file(self, frame: _Frame, name: str, path: str) -> None:
        # O_NONBLOCK: a pipe in its place would wait for a writer for ever.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(name, flags, dir_fd=frame.fd)
        try:
            seen = os.fstat(fd)
            if not stat.S_ISREG(seen.st_mode):
                raise OSError(errno.EINVAL, "it is no file any more")
            twin = self._find_twin(path, seen)
            if twin is not None:
                self._header(path, seen, tarfile.LNKTYPE, link=twin)
                self._note(path, kind="link", target=_inside(twin))
                return
            self._copy_content(fd, path, seen)
        finally:
            os.close(fd)

    def _find_twin(self, path: str, seen: os.stat_result) -> str | None:
        """Another name of the same file that was copied before.

        Of very many files whose other names are still to come only so many are remembered; what
        is beyond is copied once for each name: more room, and nothing lost.
        """
        inode = (seen.st_dev, seen.st_ino)
        twin, left = self._links.pop(inode, (None, seen.st_nlink))
        if left > 1 and (twin is not None or len(self._links) < _LINKS_MAX):
            self._links[inode] = (twin or path, left - 1)
        return twin

    def _copy_content(self, fd: int, path: str, seen: os.stat_result) -> None:
        extents = _extents(fd, seen)
        digest, written = hashlib.sha256(), 0
        if extents is None:
            extents = array("Q", (0, seen.st_size))
            self._header(path, seen, tarfile.REGTYPE, fd=fd, size=seen.st_size)
        else:
            map_bytes = sum(map(len, _sparse_map(extents)))
            sparse = {
                "GNU.sparse.major": "1",
                "GNU.sparse.minor": "0",
                "GNU.sparse.name": path,
                "GNU.sparse.realsize": str(seen.st_size),
            }
            size = _padded(map_bytes) + sum(extents[1::2])
            self._header(path, seen, tarfile.REGTYPE, fd=fd, size=size, pax=sparse)
            for line in _sparse_map(extents):
                digest.update(line)
                self.write(line)
            self.write(bytes(_padded(map_bytes) - map_bytes))
        problem = ""
        for start, size in zip(extents[::2], extents[1::2], strict=True):
            os.lseek(fd, start, os.SEEK_SET)
            left = size
            while left:
                data, why = _read(fd, min(left, CHUNK_BYTES))
                problem = problem or why
                digest.update(data)
                self.write(data)
                left -= len(data)
            written += size
        self.write(bytes(_padded(written) - written))
        self.files += 1
        more: dict[str, Any] = {} if len(extents) == 2 and extents[0] == 0 else {"sparse": True}
        self._note(path, kind="file", size=seen.st_size, sha256=digest.hexdigest(), **more)
        if problem:
            self._miss(path, problem)

    def _header(
        self,
        path: str,
        seen: os.stat_result,
        kind: bytes,
        *,
        fd: int | None = None,
        size: int = 0,
        link: str = "",
        pax: dict[str, str] | None = None,
    ) -> None:
        info = tarfile.TarInfo(path)
        info.type, info.size, info.linkname = kind, size, link
        info.mode, info.uid, info.gid = stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid
        info.mtime = max(0, int(seen.st_mtime))
        found = dict(pax or {})
        if seen.st_mtime_ns % 10**9 or seen.st_mtime_ns < 0:
            found["mtime"] = to_seconds(seen.st_mtime_ns)
        if fd is not None:
            found.update(_xattrs(fd))
        info.pax_headers = found
        self.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", _ERRORS))

    def _note(self, path: str, **said: Any) -> None:
        line = json.dumps({"path": _inside(path), **said}, sort_keys=True)
        self._lines.append(line)
        self._characters += len(line)
        if len(self._lines) >= MANIFEST_ENTRIES or self._characters >= _MANIFEST_CHARACTERS:
            self._flush()

    def _miss(self, path: str, why: str) -> None:
        self.missed += 1
        self._note(path, kind="missed", why=why)

    def _flush(self) -> None:
        """Write what was noted as a member of its own."""
        if not self._lines:
            return
        data = ("\n".join(self._lines) + "\n").encode()
        self._members += 1
        info = tarfile.TarInfo(f"{MANIFEST}/{self._members:06}.jsonl")
        info.size, info.mode = len(data), 0o644
        self.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", _ERRORS))
        self.write(data + bytes(_padded(len(data)) - len(data)))
        self._lines.clear()
        self._characters = 0


def _names_in(fd: int) -> list[str]:
    return sorted(os.listdir(fd), key=os.fsencode, reverse=True)


def _text(name: str) -> str:
    """As UTF-8 whatever this process's locale is."""
    return os.fsencode(name).decode("utf-8", _ERRORS)


def _inside(path: str) -> str:
    return path.removeprefix(f"{TOP}/")


def _padded(size: int) -> int:
    return -(-size // _BLOCK_BYTES) * _BLOCK_BYTES


def to_seconds(ns: int) -> str:
    """As pax writes a time: `to_ns` reads it again."""
    whole, part = divmod(abs(ns), 10**9)
    return f"{'-' if ns < 0 else ''}{whole}.{part:09}"


def to_ns(text: str) -> int:
    """Nanoseconds of what `to_seconds` wrote."""
    whole, _, part = text.removeprefix("-").partition(".")
    found = int(whole or 0) * 10**9 + int((part + "0" * 9)[:9])
    return -found if text.startswith("-") else found


def _read(fd: int, size: int) -> tuple[bytes, str]:
    """So many bytes; zeros, and why, where there are none: the header has said how many come."""
    try:
        data = os.read(fd, size)
    except OSError as error:
        return bytes(size), f"a part of it could not be read: {error.strerror}"
    return (data, "") if data else (bytes(size), "it became shorter while it was copied")


def _xattrs(fd: int) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        for name in sorted(os.listxattr(fd)) if hasattr(os, "listxattr") else ():
            # pax ends a keyword at the first "=".
            if name.startswith("user.") and "=" not in name:
                found[XATTR + name] = os.getxattr(fd, name).decode("utf-8", _ERRORS)
    except OSError:
        return found  # this file system has none
    return found


def _extents(fd: int, seen: os.stat_result) -> array[int] | None:
    """Starts and sizes of what is no hole, by turns; None: there is none, or nobody knows."""
    size = seen.st_size
    if seen.st_blocks * 512 >= size or not hasattr(os, "SEEK_DATA"):
        return None
    found, at = array("Q"), 0
    try:
        while at < size:
            try:
                start = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    return None
                break  # only holes from here on
            at = min(size, os.lseek(fd, start, os.SEEK_HOLE))
            if found and start - (found[-2] + found[-1]) < _GAP_BYTES:
                found[-1] = at - found[-2]
            else:
                found.extend((start, at - start))
    except OSError:
        return None
    if len(found) == 2 and found[0] == 0 and found[1] == size:
        return None
    if not found or found[-2] + found[-1] < size:
        found.extend((size, 0))  # GNU tar's way to say where the file ends
    return found


def _sparse_map(extents: array[int]) -> Iterator[bytes]:
    yield b"%d\n" % (len(extents) // 2)
    for number in extents:
        yield b"%d\n" % number
