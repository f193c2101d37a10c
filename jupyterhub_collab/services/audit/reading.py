"""The audit log over HTTP: events, one event, its proof, checkpoints.

People come through the hub's login and read all that they may. A program with a token of the hub
reads what its owner stands in themselves; to read all that its owner may it needs the hub scope
`SCOPE_AUDIT_READ` besides, so that a token made for something else shows nothing of others. A hub
service is nobody in the log and reads nothing.

What a reader may not see is not there: the answer is the one for what there is not.
"""

from __future__ import annotations

import logging
import uuid
from typing import Any, Final

from tornado.web import HTTPError

from ...constants import SCOPE_AUDIT_READ
from ...errors import CollabError, Problem, RetryableError
from ...managers.audit_reading import AuditReading, NobodyError
from ...policy.audit_bundle import EventLine, EventProof, proof_file
from ...policy.audit_reading import Reader
from .handlers import Handler, Route
from .reading_query import BadQueryError, read_number, read_query, to_sequence

log = logging.getLogger(__name__)

CACHE_S: Final = 5  # in which the hub's word on a token counts; it can be revoked
MORE: Final = "reading"  # where in `Work.more` an `AuditReading` is
_CHECKPOINTS_MAX: Final = 1000
NO_EVENT: Final = "There is no such event, or it is not for you."


class ReadingHandler(Handler):
    """Base: who reads, and refusals.

    Attributes
    ----------
    reader
        Who asks, as they stand at this moment.
    """

    reader: Reader

    @property
    def reading(self) -> AuditReading:
        """What answers."""
        reading: AuditReading = self.work.more[MORE]
        return reading

    async def prepare(self) -> None:
        cache = self.hub_auth.cache
        cache.max_age = min(cache.max_age or CACHE_S, CACHE_S)
        await super().prepare()
        if self._finished or self.is_public:
            return
        self.reader = await self.ask_reader(self.hub_model or {})

    async def ask_reader(self, model: dict[str, Any]) -> Reader:
        """Who asks, as the hub says they stand now. Raises HTTPError."""
        if model.get("kind") != "user":
            raise HTTPError(
                403,
                "Only people read the audit log. Use a token of a hub user; a program that takes"
                " all events is served by the log's stream.",
            )
        is_token = getattr(self, "_token_authenticated", False)
        is_full = not is_token or SCOPE_AUDIT_READ in model.get("scopes", ())
        try:
            return await self.reading.reader(
                model["name"],
                is_full=is_full,
                address=self.request.remote_ip or "",
                agent=self.request.headers.get("User-Agent", ""),
                correlation=uuid.uuid4().hex,
            )
        except NobodyError as e:
            raise HTTPError(403, "The hub does not know you any more. Log in again.") from e
        except RetryableError as e:
            log.warning("The hub does not say where a reader stands: %s", e)
            self.set_header("Retry-After", "5")
            raise HTTPError(
                503, "The hub does not say just now what you may read. Try again in a minute."
            ) from e
        except CollabError as e:
            log.error("The hub refuses to say where a reader stands: %s", e)
            raise HTTPError(
                502, "The hub does not tell this service what you may read. Tell an admin."
            ) from e

    def answer_error(self, error: CollabError | BadQueryError) -> None:
        """Answer what went wrong."""
        if isinstance(error, BadQueryError):
            self.refuse_query(error)
        elif isinstance(error, RetryableError):
            log.warning("A reader was not answered: %s", error)
            self.set_header("Retry-After", str(max(1, round(error.retry_after_s or 5))))
            self.refuse(503, str(error))
        else:
            log.error("A reader was not answered: %s", error)
            self.refuse(500, "The audit log cannot be read as it should. Tell an admin.")

    def cut_off(self) -> None:
        """End an answer that was begun, so that nobody takes it for a whole one."""
        stream = getattr(self.request.connection, "stream", None)
        if stream is not None:
            stream.close()

    def refuse_query(self, error: BadQueryError) -> None:
        """422, with each field."""
        problems = [_to_wire(problem) for problem in error.problems]
        self.refuse(422, "The query is not right.", problems=problems)


def _to_wire(problem: Problem) -> dict[str, str]:
    return {"field": problem.field, "found": problem.found, "expected": problem.expected}


class EventsHandler(ReadingHandler):
    """A page of events."""

    methods = ("GET", "HEAD")

    async def get(self) -> None:
        try:
            asked = read_query(self.request.query_arguments)
            page = await self.reading.search(
                self.reader,
                asked.query,
                before=asked.before,
                after=asked.after,
                limit=asked.limit,
            )
        except (BadQueryError, CollabError) as error:
            self.answer_error(error)
            return
        self.send(
            {
                "events": [event.to_wire() for event in page.events],
                "order": "newest first" if asked.after is None else "oldest first",
                "next": page.following,
            }
        )


class EventHandler(ReadingHandler):
    """One event."""

    async def get(self, number: str) -> None:
        sequence = to_sequence(number)
        try:
            read_query(self.request.query_arguments, paging=False)
            event = await self.reading.find(self.reader, sequence or 0)
        except (BadQueryError, CollabError) as error:
            self.answer_error(error)
            return
        if event is None:
            self.refuse(404, NO_EVENT)
            return
        self.send({**event.to_wire(), "leaf": event.to_line()})


class ProofHandler(ReadingHandler):
    """That an event is in the log: a file that `audit verify` and anybody else can check."""

    async def get(self, number: str) -> None:
        sequence = to_sequence(number)
        try:
            read_query(self.request.query_arguments, paging=False)
            proof = await self.reading.prove(self.reader, sequence or 0)
        except (BadQueryError, CollabError) as error:
            self.answer_error(error)
            return
        if proof is None:
            self.refuse(404, NO_EVENT)
            return
        line = EventLine(proof.event.body, proof.event.opened)
        made = EventProof(line, proof.event.sequence - 1, proof.size, proof.path, proof.note)
        self.set_header(
            "Content-Disposition", f'attachment; filename="event-{proof.event.sequence}.proof.json"'
        )
        self.finish(proof_file(made, self.reading.verifier.origin))


class CheckpointsHandler(ReadingHandler):
    """Signed heads, newest first, and the key that checks them. They tell of no event.

    For emitters too: who tells the log of something may hold it to what it has signed by then.
    """

    async def prepare(self) -> None:
        if self.find_emitter() is not None:
            self.is_public = True
        await super().prepare()

    async def get(self) -> None:
        try:
            limit = read_number(self.request.query_arguments, "limit", 1, _CHECKPOINTS_MAX)
            found = await self.reading.log.checkpoints()
        except (BadQueryError, CollabError) as error:
            self.answer_error(error)
            return
        newest = found[::-1][: limit or 100]
        self.send(
            {
                "checkpoints": [{"size": size, "note": note} for size, note in newest],
                "key": self.reading.verifier.to_text(),
            }
        )


class WhoHandler(ReadingHandler):
    """What the asker may read, in words of the hub."""

    async def get(self) -> None:
        scope = self.reader.scope
        self.send(
            {
                "name": self.reader.name,
                "everything": scope.everything,
                "contests": sorted(scope.contests),
                "teams": sorted(scope.teams),
                "datasets": sorted("/".join(pair) for pair in scope.datasets),
                "own": scope.person is not None,
            }
        )


ROUTES: Final[list[Route]] = [
    ("api/events", EventsHandler),
    (r"api/events/([^/]+)", EventHandler),
    (r"api/events/([^/]+)/proof", ProofHandler),
    ("api/checkpoints", CheckpointsHandler),
    ("api/who", WhoHandler),
]
