"""Where a contest is, over HTTP: counts, what is stuck and why, what comes when; also live.

The live stream (server-sent events) says it again whenever it has changed. Who watches is asked of
the hub again every few seconds, and whoever takes nothing is cut off.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from jupyterhub.services.auth import UserNotAllowed
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError

from ... import names
from ...errors import CollabError
from ...models.contest_life import ContestRecord
from ...policy.contest_access import Right
from ...timeouts import TIMED_OUT, timeout
from ..slots import Slots, TooManyError
from .bodies import bad_field
from .handlers import PAGE_MAX, Handler, Route
from .wire import progress_wire, to_text

PROBLEMS: Final = "problems"  # where in `Work.more` is what tells groups that cannot be written
PER_PERSON: Final = 3
IN_ALL: Final = 100
LOOK_S: Final = 1.0
RECHECK_S: Final = 5.0
HEARTBEAT_S: Final = 15.0  # proxies close what is silent for a minute
SLOW_S: Final = 20.0  # a reader that takes nothing for so long is cut off


class ProgressHandler(Handler):
    """Base of both, and the one answer."""

    async def get(self, contest: str) -> None:
        found = await self.require(Right.HOST, contest)
        self.send(await self.look(found))

    async def look(self, contest: ContestRecord) -> dict[str, Any]:
        """How it is now."""
        progress = await self.work.registry.progress(contest)
        problems: Callable[[], Mapping[str, str]] = self.work.more[PROBLEMS]
        told = problems()
        return {
            **progress_wire(progress, self.work.now()),
            "problems": [
                {"group": group, "why": told[group]} for group in progress.behind if group in told
            ][:PAGE_MAX],
        }


class EventsHandler(ProgressHandler):
    """The same, whenever it has changed."""

    _is_gone = False

    async def get(self, contest: str) -> None:
        found = await self.require(Right.HOST, contest)
        slots = self.settings.setdefault("contest_live", Slots(PER_PERSON, IN_ALL))
        try:
            with slots.taken(self.asker.name):
                await self._stream(found)
        except TooManyError:
            self.set_header("Retry-After", "30")
            self.refuse(429, f"At most {PER_PERSON} streams a person. Close one of the others.")

    def on_connection_close(self) -> None:
        self._is_gone = True
        super().on_connection_close()

    async def _stream(self, contest: ContestRecord) -> None:
        loop = asyncio.get_running_loop()
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")
        checked = spoke = loop.time()
        said = ""
        try:
            while not self._is_gone:
                now = loop.time()
                if now - checked >= RECHECK_S:
                    checked = now
                    if (why := await self._is_over(contest.id)) is not None:
                        await self._say(f"event: end\ndata: {json.dumps({'message': why})}\n\n")
                        return
                text = json.dumps(await self.look(await self._read(contest)))
                if text != said:
                    said, spoke = text, now
                    await self._say(f"event: progress\ndata: {text}\n\n")
                elif now - spoke >= HEARTBEAT_S:
                    spoke = now
                    await self._say(": still here\n\n")
                await asyncio.sleep(LOOK_S)
        except StreamClosedError:
            return
        except (TIMED_OUT, CollabError):
            stream = getattr(self.request.connection, "stream", None)
            if stream is not None:  # nobody takes it for a whole one
                stream.close()

    async def _read(self, contest: ContestRecord) -> ContestRecord:
        return await self.work.store.contest(contest.id) or contest

    async def _say(self, text: str) -> None:
        self.write(text)
        async with timeout(SLOW_S):
            await self.flush()

    async def _is_over(self, contest: str) -> str | None:
        """Why the stream must end; None: it goes on."""
        token = self.hub_auth.get_token(self)
        session = self.hub_auth.get_session_id(self)
        try:
            model = await self.hub_auth.user_for_token(
                token or "", use_cache=False, session_id=session, sync=False
            )
            if model is None:
                return "You are logged out. Log in again."
            self.asker = await self.ask(self.check_hub_user(model))
            await self.require(Right.HOST, contest)
        except UserNotAllowed:
            return "You may not use this service any more."
        except HTTPError as error:
            return error.log_message or "You may not see this any more."
        return None


class TransitionsHandler(Handler):
    """What happened, in order or the newest first; of one team if it is named."""

    async def get(self, contest: str) -> None:
        found = await self.require(Right.HOST, contest)
        after = self.read_number("after", -1, 2**53)
        limit = self.read_number("limit", 100, PAGE_MAX, least=1)
        team = self.get_query_argument("team", "")
        if team and not names.is_team_id(team):
            raise bad_field("team (query)", repr(team[:60]), names.TEAM_ID_RULE)
        store = self.work.store
        if after < 0:
            past = await store.newest_transitions(found.id, team=team or None, limit=limit)
        else:
            past = await store.transitions(found.id, team=team or None, after=after, limit=limit)
        self.send(
            {
                "transitions": [
                    {
                        "number": p.number,
                        "at": to_text(p.at),
                        "by": p.by,
                        "operation": p.operation or None,
                        "team": p.transition.team or None,
                        "before": p.transition.before or None,
                        "after": p.transition.after,
                        "reason": p.transition.reason,
                    }
                    for p in past
                ]
            }
        )


ROUTES: Final[list[Route]] = [
    ("api/contests/([^/]+)/progress", ProgressHandler),
    ("api/contests/([^/]+)/events", EventsHandler),
    ("api/contests/([^/]+)/transitions", TransitionsHandler),
]
