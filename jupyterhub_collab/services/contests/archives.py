"""Where archive Jobs bring copies of volumes, and fetch them: in one stream, by a one-time token.

These pods are nobody on the hub: the token alone says which one copy they may bring or fetch. What
comes is hashed and written piece by piece; memory does not grow with it, and the event loop never
waits for a disk.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any, Final

from tornado.iostream import StreamClosedError

from ...constants import ARCHIVE_CHECKSUM_HEADER, ARCHIVE_FOOTER_BYTES
from ...errors import CollabError, RetryableError
from ...managers.contest_archives import (
    RESTORE,
    SAVE,
    ContestArchives,
    KeptError,
    NotThisOneError,
)
from ...storage.archives import CutOffError, Incoming, StoredArchive, TooLargeError
from ...timeouts import TIMED_OUT, timeout
from ..handlers import ServiceHandler
from ..routing import Route

ARCHIVES: Final = "archives"
"""Name of the `ContestArchives` among what handlers need (`Work.more`)."""

IDLE_S: Final = 120.0  # without a byte, either way; the pod is gone then
_WHOLE_S: Final = 7 * 24 * 3600.0  # of one copy, whatever its size


class _ArchiveHandler(ServiceHandler):
    """Base: checks the token."""

    is_public = True
    whats: tuple[str, ...] = ()

    @property
    def archives(self) -> ContestArchives | None:
        """None: nothing is archived here."""
        found: ContestArchives | None = self.work.more.get(ARCHIVES)
        return found

    async def prepare(self) -> None:
        await super().prepare()
        if self.archives is None:
            self.refuse(404, "Nothing is archived here: no place for archives is configured.")
            return
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        try:
            given = token.strip() if scheme.lower() == "token" else ""
            await self.archives.check(self.path_args[0], given, *self.whats)
        except NotThisOneError as error:
            self.refuse(403, str(error))

    def answer_error(self, error: CollabError) -> None:
        """Answer what went wrong."""
        status = 502
        if isinstance(error, NotThisOneError):
            status = 404
        elif isinstance(error, KeptError):
            status = 409
        elif isinstance(error, TooLargeError):
            status = 413
        elif isinstance(error, CutOffError):
            status = 408  # send it again
        elif isinstance(error, RetryableError):
            status = 503
            self.set_header("Retry-After", "10")
        self.refuse(status, str(error))

    def check_xsrf_cookie(self) -> None:
        """No browser comes here, and no cookie counts."""


class BringHandler(_ArchiveHandler):
    """Take a copy."""

    methods = ("PUT",)
    whats: tuple[str, ...] = (SAVE,)
    _incoming: Incoming | None = None
    _idle: asyncio.TimerHandle | None = None
    _is_gone = False

    async def prepare(self) -> None:
        await super().prepare()
        if self._finished or self.archives is None:
            return
        self.take_up_to(self.archives.bytes_max + ARCHIVE_FOOTER_BYTES, within_s=_WHOLE_S)
        if self.announced_bytes > self.body_bytes_max:
            self.refuse_body()
            return
        try:
            self._incoming = await self.archives.begin(self.path_args[0])
        except CollabError as error:
            self.answer_error(error)
            return
        if self._is_gone:  # while the file was made
            await self._forget()
            return
        self._watch()

    def _watch(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(IDLE_S, self._give_up)

    def _give_up(self) -> None:
        connection: Any = self.request.connection
        connection.stream.close()

    async def data_received(self, chunk: bytes) -> None:
        if self._incoming is None or self._finished:
            return
        self._watch()
        try:
            await self._incoming.write(chunk)
        except CollabError as error:
            self.answer_error(error)
            await self._forget()

    async def put(self, archive: str) -> None:
        if self._incoming is None or self.archives is None:
            return
        try:
            stored = await self.archives.keep(archive, self._incoming)
        except CollabError as error:
            self.answer_error(error)
            return
        finally:
            await self._forget()
        self.send({"sha256": stored.sha256, "bytes": stored.size})

    async def _forget(self) -> None:
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            await incoming.close()

    def on_finish(self) -> None:
        if self._idle is not None:
            self._idle.cancel()

    def on_connection_close(self) -> None:
        self._is_gone = True
        self.on_finish()
        self._cleaning = asyncio.ensure_future(self._forget())
        super().on_connection_close()


class FetchHandler(_ArchiveHandler):
    """Give a copy back, or say whether it is kept."""

    methods = ("GET", "HEAD")
    whats: tuple[str, ...] = (RESTORE,)

    async def prepare(self) -> None:
        if self.request.method == "HEAD":  # who brings one asks first whether it is there
            self.whats = (SAVE, RESTORE)
        await super().prepare()

    async def head(self, archive: str) -> None:
        found = await self._find(archive)
        if found is not None:
            self.finish()

    async def get(self, archive: str) -> None:
        if await self._find(archive) is None or self.archives is None:
            return
        try:
            _, pieces = await self.archives.read(archive)
            async with aclosing(pieces):
                async for piece in pieces:
                    self.write(piece)
                    async with timeout(IDLE_S):
                        await self.flush()
        except StreamClosedError:
            return  # the pod is gone; it comes again
        except (CollabError, TIMED_OUT):
            # Part of it is on its way: only an end before its time can say that it is not whole.
            connection: Any = self.request.connection
            connection.stream.close()

    async def _find(self, archive: str) -> StoredArchive | None:
        """The copy, with the headers that tell of it; answers where there is none."""
        found = None
        try:
            found = await self.archives.find(archive) if self.archives is not None else None
        except CollabError as error:
            self.answer_error(error)
            return None
        if found is None:
            self.set_status(404)
            self.finish(json.dumps({"status": 404, "message": "This copy is not kept here."}))
            return None
        self.set_header("Content-Type", "application/x-tar")
        self.set_header("Content-Length", str(found.size))
        self.set_header(ARCHIVE_CHECKSUM_HEADER, found.sha256)
        return found


ROUTES: list[Route] = [
    ("api/archives/([^/]+)", BringHandler),
    ("api/archives/([^/]+)", FetchHandler),
]
