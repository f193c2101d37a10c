"""The folder of a spool: its lock, its incarnation, its segments, the form of a line.

``lock`` keeps a second process out. ``incarnation`` holds the id under which the service counts
this spool's events, and the number after which it does. ``events-<number>.jsonl`` are segments:
a line per event, named by the first number that may be in them; numbers only grow.
``refused.jsonl`` has what the service never took. Whatever else lies there is left alone.

It must not: know when to write or what was delivered.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..errors import PermanentError

LINE_MAX: Final = 64 * 1024  # an event has 32 KiB at most
_REFUSED_BYTES_MAX: Final = 16 * 1024 * 1024
_SEGMENT: Final = re.compile(r"events-(\d{16})\.jsonl")
_START: Final = b'{"sequence":%d,"event":'
_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass(frozen=True)
class Spooled:
    """An event as it lies in the spool.

    Attributes
    ----------
    number
        The spool's own count, which goes on for ever.
    event
        Its JSON.
    """

    number: int
    event: bytes


@dataclass(frozen=True)
class Incarnation:
    """Under which id, and from where, the service counts.

    Attributes
    ----------
    after
        The emitter's sequence of an event is its number less this one.
    """

    id: str
    after: int


def to_line(number: int, event: bytes) -> bytes:
    """A segment's line."""
    return b'{"sequence":%d,"event":%b}\n' % (number, event)


def from_line(line: bytes) -> Spooled | None:
    """What a whole line says; None if it is none of ours, or damaged."""
    try:
        number = json.loads(line)["sequence"]
        start = _START % number
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if type(number) is not int or number < 1 or not line.startswith(start) or line[-2:] != b"}\n":
        return None
    return Spooled(number, line[len(start) : -2])


class Folder:
    """A spool's folder, held against other processes from `open` to `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def open(self) -> None:
        """Make the folder if need be, and lock it.

        Raises
        ------
        PermanentError
            Another process has it, or it cannot be used.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.path.stat().st_uid == os.geteuid():  # else whoever mounted it decides
                self.path.chmod(0o700)
            lock = os.open(self.path / "lock", _CREATE, 0o600)
        except OSError as e:
            raise PermanentError(
                f"audit events cannot be kept in {self.path}: {e.strerror}. Give this program a"
                " folder of its own that it may write to, on a disk with room"
            ) from e
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            os.close(lock)
            raise PermanentError(
                f"another process keeps its audit events in {self.path}: two would number them"
                " alike. Stop it, or give each a folder of its own"
            ) from e
        self._lock = lock

    def close(self) -> None:
        """Let others have it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def segments(self) -> list[int]:
        """First numbers of all segments, in order."""
        found = (_SEGMENT.fullmatch(entry.name) for entry in self.path.iterdir())
        return sorted(
            int(match[1]) for match in found if match and self._is_plain(self.path / match[0])
        )

    def segment(self, first: int) -> Path:
        return self.path / f"events-{first:016d}.jsonl"

    def create_segment(self, first: int) -> int:
        """Begin a segment; its descriptor, which appends."""
        flags = _CREATE | os.O_EXCL | os.O_APPEND
        return os.open(self.segment(first), flags, 0o600)

    def reopen_segment(self, first: int) -> tuple[int, int, int]:
        """Go on with the last segment, its torn last line cut off.

        Returns
        -------
        Its descriptor, which appends; its size in bytes; its last number, `first` - 1 if it has
        none.
        """
        descriptor = os.open(
            self.segment(first), os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        )
        try:
            last, size = first - 1, 0
            with os.fdopen(os.dup(descriptor), "rb") as file:
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    size += len(line)
                    spooled = from_line(line)
                    if spooled is not None:
                        last = max(last, spooled.number)
            os.ftruncate(descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor, size, last

    def open_to_read(self, first: int) -> int:
        return os.open(self.segment(first), _READ)

    def append_refused(self, line: bytes) -> None:
        """Keep a line in ``refused.jsonl``, while there is not too much in it."""
        flags = _CREATE | os.O_APPEND
        with os.fdopen(os.open(self.path / "refused.jsonl", flags, 0o600), "ab") as file:
            if file.tell() < _REFUSED_BYTES_MAX:
                file.write(line)

    def read_incarnation(self) -> Incarnation | None:
        """None: there is none that can be read."""
        try:
            descriptor = os.open(self.path / "incarnation", _READ)
            with os.fdopen(descriptor, "rb") as file:
                found = json.loads(file.read(1024))
            incarnation = Incarnation(found["incarnation"], found["after"])
        except (OSError, ValueError, TypeError, KeyError):
            return None
        whole = isinstance(incarnation.after, int) and incarnation.after >= 0
        named = isinstance(incarnation.id, str) and re.fullmatch("[0-9a-f]{32}", incarnation.id)
        return incarnation if whole and named else None

    def renew_incarnation(self, after: int) -> Incarnation:
        """Begin to count anew, behind the number `after`. On disk when it returns."""
        incarnation = Incarnation(secrets.token_hex(16), after)
        written = self.path / "incarnation.new"
        written.unlink(missing_ok=True)
        descriptor = os.open(written, _CREATE | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            text = {"incarnation": incarnation.id, "after": after}
            file.write(json.dumps(text).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        written.replace(self.path / "incarnation")
        self.sync([])
        return incarnation

    def sync(self, segments: Sequence[int]) -> None:
        """Have the disk keep which files there are, and what is in these."""
        for path in (*map(self.segment, segments), self.path):
            descriptor = os.open(path, _READ)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    @staticmethod
    def _is_plain(path: Path) -> bool:
        try:
            return stat.S_ISREG(path.lstat().st_mode)
        except FileNotFoundError:
            return False
