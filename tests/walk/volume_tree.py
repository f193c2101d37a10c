"""Fills a folder with everything that a volume may hold, and tells each entry of it.

Run in a team's container: ``python3 - make|look|clear FOLDER``, this file as its input. Standard
library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import stat
import sys
from contextlib import suppress

HOLE_BYTES = 32 << 20


def make(folder: str) -> None:
    """A tree that is the same each time, but for its times."""
    root = os.fsencode(folder) + b"/everything"
    os.mkdir(root, 0o750)
    some = random.Random(7)
    files = {
        b"plain.txt": b"Coral at 12 m\n",
        b"empty": b"",
        b"big.bin": some.randbytes(3_000_001),
        b"a name\nof two lines": b"1",
        b"no \xff\xfe text": b"2",
        b" -rf *": b"3",
        "Größe ☃".encode(): b"4",
        b"n" * 255: b"5",
        b".hidden": b"6",
    }
    for name, data in files.items():
        with open(root + b"/" + name, "wb") as file:
            file.write(data)
    for name, mode in ((b"plain.txt", 0o640), (b"empty", 0o400), (b".hidden", 0o4711)):
        os.chmod(root + b"/" + name, mode)
    with open(root + b"/sparse", "wb") as file:
        file.write(b"begin")
        file.seek(HOLE_BYTES)
        file.write(b"end")
    for name, target in (
        (b"link", b"plain.txt"),
        (b"dangling", b"no/such \xff file"),
        (b"absolute", b"/etc/hostname"),
        (b"round", b"."),
    ):
        os.symlink(target, root + b"/" + name)
    os.link(root + b"/plain.txt", root + b"/the same file")
    os.makedirs(root + b"/deep" + b"/d" * 60)
    with open(root + b"/deep" + b"/d" * 60 + b"/leaf", "wb") as file:
        file.write(b"leaf")
    os.mkdir(root + b"/empty folder", 0o700)
    os.chmod(root + b"/deep", 0o555)
    with suppress(OSError):  # not every file system has them
        os.setxattr(root + b"/plain.txt", b"user.depth", b"12 m\x00")
    os.utime(root + b"/plain.txt", ns=(1_000_000_001, 1_234_567_890_123_456_789))


def look(folder: str) -> list[dict[str, object]]:
    """Every entry below a folder, in the order of their names' bytes."""
    found: list[dict[str, object]] = []
    top = os.fsencode(folder)
    for where, folders, files in os.walk(top):
        folders.sort()
        for name in sorted(folders + files):
            found.append(_entry(os.path.join(where, name), top))
    return sorted(found, key=lambda entry: str(entry["path"]))


def _entry(path: bytes, top: bytes) -> dict[str, object]:
    info = os.lstat(path)
    entry: dict[str, object] = {
        "path": os.path.relpath(path, top).hex(),
        "mode": oct(info.st_mode),
        "owner": [info.st_uid, info.st_gid],
        "times": info.st_mtime_ns,
    }
    if stat.S_ISLNK(info.st_mode):
        return {**entry, "target": os.readlink(path).hex()}
    if stat.S_ISREG(info.st_mode):
        with open(path, "rb") as file:
            entry["sha256"] = hashlib.sha256(file.read()).hexdigest()
        entry |= {"bytes": info.st_size, "links": info.st_nlink}
        if info.st_size == HOLE_BYTES + 3:
            entry["is_sparse"] = info.st_blocks * 512 < info.st_size
    with suppress(OSError, AttributeError):
        names = [name for name in os.listxattr(path) if name.startswith("user.")]
        entry["attributes"] = {name: os.getxattr(path, name).hex() for name in names}
    return entry


def clear(folder: str) -> None:
    """Remove everything that is in a folder."""
    for where, folders, _ in os.walk(folder):
        for name in folders:
            path = os.path.join(where, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


if __name__ == "__main__":
    asked, place = sys.argv[1], os.path.expanduser(sys.argv[2])
    print(json.dumps({"make": make, "look": look, "clear": clear}[asked](place)))
