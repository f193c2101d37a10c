"""What each anchor took last, in a file beside neither the database nor the anchors.

After a restart nothing is sent twice; and where no anchor can be read, it still shows that the
database was put back to an earlier state.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import PermanentError
from .files import write_whole

_FILE: Final = "anchors-taken.json"


@dataclass(frozen=True)
class Taken:
    """A checkpoint that an anchor took."""

    size: int
    note: str


class AnchorMemory:
    """One file in a folder. Reads once; writes whole.

    Raises
    ------
    PermanentError
        The folder or the file cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / _FILE
        self._writing = asyncio.Lock()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            text = self._file.read_text() if self._file.exists() else "{}"
            self._taken = {name: _to_taken(value) for name, value in json.loads(text).items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as e:
            raise PermanentError(
                f"What the anchors took cannot be read from {self._file} ({type(e).__name__})."
                " Restore it from a backup; or look at what the anchors hold, and move it away."
            ) from e

    def taken(self) -> Mapping[str, Taken]:
        """By the anchor's name."""
        return dict(self._taken)

    async def remember(self, name: str, taken: Taken) -> None:
        """Raises OSError; then it is still remembered while this process runs."""
        self._taken[name] = taken
        await self._keep()

    async def forget(self) -> None:
        """An admin accepted another past. Raises OSError."""
        self._taken.clear()
        await self._keep()

    async def _keep(self) -> None:
        async with self._writing:  # one after the other: the last written is the newest
            await asyncio.to_thread(self._write, dict(self._taken))

    def _write(self, taken: Mapping[str, Taken]) -> None:
        value = {name: {"size": t.size, "note": t.note} for name, t in taken.items()}
        write_whole(self._file, json.dumps(value, indent=1).encode(), mode=0o600)


def _to_taken(value: Any) -> Taken:
    return Taken(int(value["size"]), str(value["note"]))
