"""The file of emitters, read anew when it changes. A broken new one leaves the old in force."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ...errors import PermanentError
from ...policy.audit_emitters import Emitters, EmittersError, read_emitters

log = logging.getLogger(__name__)

_EVERY_S: Final = 2.0
_BYTES_MAX: Final = 1 << 20
_Mark = tuple[int, int, int]


class EmittersFile:
    """The file, and what it says now.

    Attributes
    ----------
    current
        In force.
    error
        Why the file as it is now is not, None if it is.

    Raises
    ------
    PermanentError
        It cannot be used at the start.
    """

    def __init__(self, path: Path, *, every_s: float = _EVERY_S) -> None:
        self._path, self._every_s = path, every_s
        self.error: str | None = None
        self._mark: _Mark | None = None
        try:
            self._mark, self.current = self._read()
        except (OSError, EmittersError) as e:
            raise PermanentError(
                f"The file of emitters {path} cannot be used: {_say(e)}. Make it with"
                " `jupyterhub-collab audit emitter add`."
            ) from e

    async def run(self, on_change: Callable[[], None] = lambda: None) -> None:
        """Look at it until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            if await asyncio.to_thread(self.look):
                on_change()

    def look(self) -> bool:
        """Read it if it changed; whether something else is in force now. Blocks."""
        try:
            if self._mark == self._stat():
                return False
            mark, found = self._read()
        except (OSError, EmittersError) as e:
            said = _say(e)
            if said != self.error:
                log.error("The new file of emitters is not used, the old stays in force: %s", said)
            self.error = said
            return False
        if self.error is not None:
            log.info("The file of emitters can be used again")
        self._mark, self.error = mark, None
        is_other = found != self.current
        self.current = found
        return is_other

    def _stat(self) -> _Mark:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> tuple[_Mark, Emitters]:
        mark = self._stat()  # before: what is changed meanwhile is read again
        with self._path.open("rb") as file:
            return mark, read_emitters(file.read(_BYTES_MAX))


def _say(error: Exception) -> str:
    return (error.strerror or "") if isinstance(error, OSError) else str(error)
