"""Folders as people leave them, and what counts of each thing in them."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

HOSTILE = (
    b"-rf",
    b"a\nline",
    b"back\\slash",
    b'"quoted"',
    b"\xff\xfe not utf-8",
    b" blanks ",
    b"\xe2\x80\xae right to left",
    b"...",
    b"~",
    b"x" * 255,
    b"volume",
    b"manifest",
)


def tree_of(folder: Path) -> dict[bytes, tuple[Any, ...]]:
    """All that counts of each entry, by path."""
    found: dict[bytes, tuple[Any, ...]] = {}
    root = os.fsencode(folder)
    for at, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(at, name)
            seen = os.lstat(path)
            content: bytes = b""
            if stat.S_ISLNK(seen.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(seen.st_mode):
                content = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).digest()
            mode = stat.S_IMODE(seen.st_mode) if not stat.S_ISLNK(seen.st_mode) else 0
            key = os.path.relpath(path, root)
            found[key] = (stat.S_IFMT(seen.st_mode), mode, seen.st_mtime_ns, content)
    return found


def fill(folder: Path) -> None:
    """All kinds of things that people leave in volumes."""
    at = os.fsencode(folder)
    for name in HOSTILE:
        Path(os.fsdecode(os.path.join(at, name))).write_bytes(name)
    (folder / "empty").mkdir(mode=0o750)
    (folder / "deep" / "er" / ("d" * 200) / ("e" * 200)).mkdir(parents=True)
    (folder / "deep/er/file").write_bytes(os.urandom(3_000_001))
    (folder / "nothing").touch()
    (folder / "script").write_text("#!/bin/sh\n")
    (folder / "script").chmod(0o4755)
    (folder / "twin").write_text("twice")
    os.link(folder / "twin", folder / "zwin")
    (folder / "absolute").symlink_to("/etc/passwd")
    (folder / "out").symlink_to("../../..")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "folder-link").symlink_to("deep")
    (folder / "locked").mkdir()
    (folder / "locked/inside").write_text("in a folder that cannot be written")
    (folder / "locked").chmod(0o555)
    with (folder / "sparse").open("wb") as file:
        file.seek(5 << 20)
        file.write(b"in the middle")
        file.truncate(50 << 20)
    with (folder / "sparse-start").open("wb") as file:
        file.write(b"at the start")
        file.truncate(3 << 20)
    os.utime(folder / "nothing", ns=(1, 1_234_567_890_123_456_789))
    os.utime(folder / "empty", ns=(1, -1_500_000_001))
