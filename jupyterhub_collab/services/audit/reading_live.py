"""The audit log as it grows: server-sent events (WHATWG HTML, 9.2).

A stream shows what a search would, from the moment on at which it was opened or after
`Last-Event-ID`. Who reads is asked of the hub again every few seconds: a stream ends when its
token is void or its reader may read something else than before, and when the hub does not say. A
reader that takes nothing is cut off, and so nobody's slowness costs memory.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import aclosing
from typing import Final

from jupyterhub.services.auth import UserNotAllowed
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError

from ...errors import CollabError
from ...policy.audit_reading import ShownEvent
from ...timeouts import TIMED_OUT, timeout
from ..slots import Slots, TooManyError
from .handlers import Route
from .reading import ReadingHandler
from .reading_query import Asked, BadQueryError, read_query, to_sequence

log = logging.getLogger(__name__)

PER_PERSON: Final = 3
IN_ALL: Final = 100
HEARTBEAT_S: Final = 15.0  # proxies close what is silent for a minute
RECHECK_S: Final = 5.0
SLOW_S: Final = 20.0  # a reader that takes nothing for so long is cut off


class LiveHandler(ReadingHandler):
    """One stream."""

    _is_gone = False

    async def get(self) -> None:
        try:
            asked = read_query(self.request.query_arguments, paging=False)
            after = self._last_event_id()
        except BadQueryError as error:
            self.refuse_query(error)
            return
        slots = self.settings.setdefault("audit_live", Slots(PER_PERSON, IN_ALL))
        try:
            with slots.taken(self.reader.name):
                await self._stream(asked, after)
        except TooManyError:
            self.set_header("Retry-After", "30")
            self.refuse(429, f"At most {PER_PERSON} streams a person. Close one of the others.")

    def _last_event_id(self) -> int | None:
        text = self.request.headers.get("Last-Event-ID", "")
        after = to_sequence(text)
        if text and after is None:
            raise HTTPError(422, "Last-Event-ID is not the number of an event.")
        return after

    def on_connection_close(self) -> None:
        self._is_gone = True
        super().on_connection_close()

    async def _stream(self, asked: Asked, after: int | None) -> None:
        loop = asyncio.get_running_loop()
        try:
            events = await self.reading.follow(
                self.reader, asked.query, after=after, is_live=lambda: not self._is_gone
            )
        except CollabError as error:
            self.answer_error(error)
            return
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")
        checked = spoke = loop.time()
        try:
            async with aclosing(events):
                await self._send(": open\n\n")
                async for some in events:
                    now = loop.time()
                    if now - checked >= RECHECK_S:
                        checked = now
                        if (why := await self._is_over()) is not None:
                            await self._send(_to_text("end", {"message": why}))
                            break
                    if some or now - spoke >= HEARTBEAT_S:
                        spoke = now
                        await self._send("".join(map(_to_line, some)) or ": still here\n\n")
        except StreamClosedError:
            return
        except TIMED_OUT:
            log.info("A reader of the live log took nothing for %s s and was cut off", SLOW_S)
            self.cut_off()
        except CollabError as error:
            log.warning("A live stream ends: %s", error)
            self.cut_off()

    async def _send(self, text: str) -> None:
        self.write(text)
        async with timeout(SLOW_S):
            await self.flush()

    async def _is_over(self) -> str | None:
        """Why the stream must end; None: it goes on."""
        token = self.hub_auth.get_token(self)
        session = self.hub_auth.get_session_id(self)
        try:
            model = await self.hub_auth.user_for_token(
                token or "", use_cache=False, session_id=session, sync=False
            )
            if model is None:
                return "You are logged out. Log in again."
            reader = await self.ask_reader(self.check_hub_user(model))
        except UserNotAllowed:
            return "You may not use this service any more."
        except HTTPError as error:
            return error.log_message or "The hub does not say what you may read."
        if reader.scope != self.reader.scope:
            return "What you may read has changed. Open the stream again."
        return None


def _to_line(event: ShownEvent) -> str:
    return f"id: {event.sequence}\n{_to_text('audit', event.to_wire())}"


def _to_text(kind: str, data: object) -> str:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"


ROUTES: Final[list[Route]] = [("api/events/live", LiveHandler)]
