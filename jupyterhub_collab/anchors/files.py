"""Files that are there whole or not at all, after a crash too. Blocks: call it in a thread."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file in one step and see it on the disk. Raises OSError."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """See a folder's entries on the disk. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folders(folder: Path, *, below: Path) -> None:
    """Make a folder and those between it and `below`, which must be there. Raises OSError."""
    if folder == below or folder.is_dir():
        return
    make_folders(folder.parent, below=below)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)
