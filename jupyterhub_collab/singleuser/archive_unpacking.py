"""Unpacks a volume's copy, and checks every file of it against its manifest.

Nothing is written outside the folder: each part of a path is opened by itself and never through a
link, whatever the copy says and whoever writes in the volume meanwhile. Symbolic links come back as
they were, wherever they point: they are text, and are not followed here. Devices, pipes, absolute
paths, ``..`` and hard links to anything but a file of the copy are refused.

Nothing that is in the volume is overwritten: one that is not empty gets a folder
``restored-<archive>``. A mark tells a volume in which an earlier try of the same restore began.

What is held in memory does not grow with the number of files: of folders those that are open in the
copy just now, of checksums those whose part of the manifest is still to come.

It must not: import anything but the standard library; it runs in the archive Job's pod.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any, Final

from .archive_packing import (
    CHUNK_BYTES,
    FOLDER_FLAGS,
    MANIFEST,
    MANIFEST_ENTRIES,
    NEVER,
    TOP,
    XATTR,
    ArchiveError,
    to_ns,
)

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TRIES: Final = 100
_DEPTH_MAX: Final = 1000  # folders in folders; a copy of ours has half as many at most
_LATE_MAX: Final = 10_000
_OWNER_ENTERS: Final = 0o500
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class _Hashing(io.RawIOBase):
    """A stream that knows the checksum of what was read of it."""

    def __init__(self, source: IO[bytes]) -> None:
        super().__init__()
        self._source, self.digest = source, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.digest.update(data)
        return data


def unpack(source: IO[bytes], folder: str, *, name: str, sha256: str) -> dict[str, Any]:
    """Unpack a copy; what it held.

    Parameters
    ----------
    name
        Of the archive; marks what this restore has made.
    sha256
        Of the whole copy, 64 hex digits.

    Raises
    ------
    ArchiveError
        It holds what no copy of ours holds, or is not what was kept.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise ArchiveError("the archive's name is none", NEVER)
    stream, mark = _Hashing(source), f".collab-restore-{name}"
    root = os.open(folder, FOLDER_FLAGS)
    try:
        found = [n for n in os.listdir(root) if n != "lost+found"]
        into = root if mark in found or not found else _open_beside(root, name, mark)
        with suppress(FileExistsError):
            os.close(os.open(mark, _NEW, 0o600, dir_fd=into))
        unpacker = _Unpacker(into)
        try:
            unpacker.run(stream)
            while stream.read(CHUNK_BYTES):
                pass  # the checksum is of all of it
            if stream.digest.hexdigest() != sha256:
                raise ArchiveError("what came is not what was kept: its checksum differs")
            with suppress(FileNotFoundError):
                os.unlink(mark, dir_fd=into)
            unpacker.finish()
        finally:
            if into != root:
                os.close(into)
    finally:
        os.close(root)
    return {"sha256": sha256, "files": unpacker.files}


def _open_beside(root: int, name: str, mark: str) -> int:
    """A folder beside what is there: a new one, or one in which this restore was cut off.

    One that was finished has its mark no more: members work there, and nothing is put over it.
    """
    for number in range(1, _TRIES + 1):
        folder = f"restored-{name}" if number == 1 else f"restored-{name}-{number}"
        try:
            os.mkdir(folder, 0o700, dir_fd=root)
        except FileExistsError:
            try:
                opened = os.open(folder, FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=root)
            except OSError:  # a file, or a link
                continue
            if mark in os.listdir(opened):
                return opened
            os.close(opened)
        else:
            opened = os.open(folder, FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=root)
            os.close(os.open(mark, _NEW, 0o600, dir_fd=opened))
            return opened
    raise ArchiveError(f"the volume has {_TRIES} restores of {name} already: delete some", NEVER)


@dataclass(frozen=True)
class _Folder:
    """A folder of which more may come. `parts`: below the copy's top."""

    parts: tuple[str, ...]
    mode: int
    mtime_ns: int


class _Unpacker:
    def __init__(self, root: int) -> None:
        self._root = root
        self.files = 0
        self._sums: dict[str, str] = {}  # of files whose manifest is still to come
        self._folders: list[_Folder] = []  # each in the one before it
        self._late: list[_Folder] = []

    def run(self, stream: _Hashing) -> None:
        with tarfile.open(
            fileobj=stream,
            mode="r|",
            encoding="utf-8",
            errors="surrogateescape",
        ) as tar:
            # A sparse file's parts are sought, only forward: the stream can, and does not say so.
            vars(tar.fileobj)["seekable"] = lambda: True
            try:
                while (member := tar.next()) is not None:
                    vars(tar)["members"] = []  # it keeps all of them otherwise
                    self._take(tar, member)
            except tarfile.TarError as error:
                raise ArchiveError(f"the copy cannot be read: {error}") from error
        if self._sums:
            raise ArchiveError(f"the manifest does not name {next(iter(self._sums))!r}", NEVER)

    def finish(self) -> None:
        """End all folders: what was made last is in those that are still open."""
        self._leave(None)
        for folder in self._late:
            self._set_mode(folder)

    def _leave(self, parts: list[str] | None) -> None:
        """End folders of which nothing more comes, now that this comes; None: nothing does.

        A folder gets its mode then: one that is read-only takes no files.
        """
        while self._folders:
            folder = self._folders[-1]
            if parts is not None and tuple(parts[: len(folder.parts)]) == folder.parts:
                return
            self._folders.pop()
            with self._parent([*folder.parts, "."]) as (fd, _), _if_ours(folder):
                os.utime(fd, ns=(folder.mtime_ns, folder.mtime_ns))
            # A hard link may still lead to a file in it.
            if folder.mode & _OWNER_ENTERS == _OWNER_ENTERS or len(self._late) >= _LATE_MAX:
                self._set_mode(folder)
            else:
                self._late.append(folder)

    def _set_mode(self, folder: _Folder) -> None:
        with self._parent([*folder.parts, "."]) as (fd, _), _if_ours(folder):
            os.fchmod(fd, folder.mode)

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = _parts(member.name)
        if parts[0] == MANIFEST and member.isreg():
            self._check(_open(tar, member))
        elif parts[0] != TOP:
            raise ArchiveError(f"{member.name!r} does not belong into a copy", NEVER)
        else:
            self._make(parts, tar, member)

    def _make(self, parts: list[str], tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        self._leave(parts[1:])
        if member.isdir():
            self._make_folder(parts[1:], member)
        elif len(parts) == 1:
            raise ArchiveError("a copy's top is a folder", NEVER)
        elif member.issym():
            with self._parent(parts[1:]) as (fd, name):
                _make_way(fd, name)
                os.symlink(os.fsdecode(_raw(member.linkname)), name, dir_fd=fd)
                times = (_mtime_ns(member), _mtime_ns(member))
                os.utime(name, ns=times, dir_fd=fd, follow_symlinks=False)
        elif member.islnk():
            self._link(parts[1:], member)
        elif member.isreg() or member.issparse():
            self._make_file(parts[1:], tar, member)
        else:
            raise ArchiveError(f"{member.name!r} is no file, folder or link", NEVER)

    def _make_folder(self, parts: list[str], member: tarfile.TarInfo) -> None:
        if len(parts) > _DEPTH_MAX:
            raise ArchiveError(f"the copy has more than {_DEPTH_MAX} folders in folders", NEVER)
        if parts:
            with self._parent(parts) as (fd, name):
                with suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=fd)
                below = _open_ours(fd, name)
                try:
                    _set_xattrs(below, member)
                finally:
                    os.close(below)
        if not self._folders or self._folders[-1].parts != tuple(parts):
            folder = _Folder(tuple(parts), member.mode & 0o7777, _mtime_ns(member))
            self._folders.append(folder)

    def _make_file(self, parts: list[str], tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        source, digest = _open(tar, member), hashlib.sha256()
        pieces: list[tuple[int, int]] = [(0, member.size)]
        if member.issparse():
            sparse: Any = member.sparse  # typed as a number, and is a list of pairs
            pieces = list(sparse or ())
            numbers = [len(pieces), *(n for piece in pieces for n in piece)]
            for number in numbers:
                digest.update(b"%d\n" % number)
        with self._parent(parts) as (fd, name):
            _make_way(fd, name)
            with open(os.open(name, _NEW, 0o600, dir_fd=fd), "wb", buffering=0) as file:
                for start, size in pieces:
                    source.seek(start)
                    file.seek(start)
                    left = size
                    while left:
                        data = source.read(min(left, CHUNK_BYTES))
                        if not data:
                            raise ArchiveError("the copy was cut off")
                        digest.update(data)
                        view = memoryview(data)
                        while view:
                            view = view[file.write(view) or 0 :]
                        left -= len(data)
                file.truncate(member.size)
                _set_xattrs(file.fileno(), member)
                os.fchmod(file.fileno(), member.mode & 0o7777)
                _set_times(file.fileno(), member)
        path = "/".join(parts)
        self.files += 1
        self._sums[path] = digest.hexdigest()
        if len(self._sums) > MANIFEST_ENTRIES:
            raise ArchiveError(f"the manifest does not name {next(iter(self._sums))!r}", NEVER)

    def _link(self, parts: list[str], member: tarfile.TarInfo) -> None:
        target, what = _parts(member.linkname), f"{member.name!r} is a link to"
        if target[0] != TOP or len(target) == 1:
            raise ArchiveError(f"{what} what the copy has not", NEVER)
        try:
            with self._parent(target[1:]) as (source, old), self._parent(parts) as (fd, name):
                # Where we unpack is nothing but what we made, and a link leads to a file only.
                if not stat.S_ISREG(os.stat(old, dir_fd=source, follow_symlinks=False).st_mode):
                    raise ArchiveError(f"{what} what is no file", NEVER)
                _make_way(fd, name)
                os.link(old, name, src_dir_fd=source, dst_dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError as error:
            raise ArchiveError(f"{what} what the copy has not", NEVER) from error

    def _check(self, lines: IO[bytes]) -> None:
        """Compare what was unpacked with this part of the manifest."""
        for line in lines:
            try:
                said = json.loads(line)
                kind, path = said["kind"], said["path"]
            except (ValueError, KeyError, TypeError) as error:
                raise ArchiveError("the manifest cannot be read", NEVER) from error
            if kind == "file" and self._sums.pop(path, None) != said.get("sha256"):
                raise ArchiveError(f"{path!r} is not what its manifest says", NEVER)

    @contextmanager
    def _parent(self, parts: list[str]) -> Iterator[tuple[int, str]]:
        """The folder of an entry, and its name there."""
        fd = os.dup(self._root)
        try:
            for part in parts[:-1]:
                below = os.open(_system(part), FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=fd)
                os.close(fd)
                fd = below
            yield fd, _system(parts[-1])
        except NotADirectoryError as error:
            raise ArchiveError(f"{'/'.join(parts)!r} leads through a link", NEVER) from error
        except OSError as error:
            if error.errno != errno.ELOOP:  # O_NOFOLLOW met a link
                raise
            raise ArchiveError(f"{'/'.join(parts)!r} leads through a link", NEVER) from error
        finally:
            os.close(fd)


def _parts(name: str) -> list[str]:
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ArchiveError(f"{name!r} is no path that a copy has", NEVER)
    return parts


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _system(text: str) -> str:
    return os.fsdecode(_raw(text))


def _open(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    found = tar.extractfile(member)
    if found is None:
        raise ArchiveError(f"{member.name!r} is no file", NEVER)
    return found


@contextmanager
def _if_ours(folder: _Folder) -> Iterator[None]:
    """The volume's own folder may belong to another, who lets us write in it: it stays theirs."""
    try:
        yield
    except PermissionError:
        if folder.parts:
            raise


def _open_ours(fd: int, name: str) -> int:
    """A folder that we made, now or in an earlier try, in which we may write."""
    try:
        below = os.open(name, FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=fd)
    except PermissionError:
        # It has its mode from the earlier try, and we may not even look into it.
        held = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        try:
            os.chmod(f"/proc/self/fd/{held}", 0o700)
        finally:
            os.close(held)
        below = os.open(name, FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=fd)
    try:
        os.fchmod(below, 0o700)
    except BaseException:
        os.close(below)
        raise
    return below


def _make_way(fd: int, name: str) -> None:
    """Remove what an earlier try made; a folder in its place stays, and then it fails."""
    with suppress(FileNotFoundError):
        if not stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=fd)


def _mtime_ns(member: tarfile.TarInfo) -> int:
    said = member.pax_headers.get("mtime")
    return to_ns(said) if said is not None else int(member.mtime) * 10**9


def _set_times(fd: int, member: tarfile.TarInfo) -> None:
    os.utime(fd, ns=(_mtime_ns(member), _mtime_ns(member)))


def _set_xattrs(fd: int, member: tarfile.TarInfo) -> None:
    for key, value in member.pax_headers.items():
        if key.startswith(f"{XATTR}user.") and hasattr(os, "setxattr"):
            with suppress(OSError):  # this file system has none
                os.setxattr(fd, key.removeprefix(XATTR), _raw(value))
