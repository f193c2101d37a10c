"""The ends of teams and contests over HTTP: archive Jobs, and what is left in the cluster.

All of it is asked of the cluster itself: an answer here is how things are, not how they were.
"""

from __future__ import annotations

from datetime import datetime, timezone

from ... import names
from ...errors import CollabError, NotOursError, Problem, RetryableError, UserError
from ...managers.leftovers import to_wire
from ...managers.team_archives import TeamArchivesStatus
from ...manifests.archive_job import ArchiveOrder, ArchiveWork
from .ending_requests import ArchiveRequest, LeftoversRequest
from .handlers import Handler
from .requests import BadRequest, parse


class EndingHandler(Handler):
    """Base: what went wrong in the cluster, as an answer."""

    def answer_cluster(self, error: CollabError) -> None:
        """Answer what went wrong."""
        if isinstance(error, UserError | NotOursError):
            self.refuse(409, str(error))
        elif isinstance(error, RetryableError):
            self.set_header("Retry-After", str(max(1, round(error.retry_after_s or 2))))
            self.refuse(503, f"The cluster does not answer as it should: {error}")
        else:
            self.refuse(502, f"The cluster refuses: {error}")

    def answer_status(self, team: str, status: TeamArchivesStatus | None) -> None:
        """Answer how a team's volumes and Jobs are."""
        if status is None:
            self.refuse(404, f"Team {team[:60]!r} has nothing in the cluster.")
        else:
            self.send(status.to_wire())


class ArchivesHandler(EndingHandler):
    """A team's volumes and archive Jobs; have volumes copied."""

    what = ArchiveWork.SAVE

    async def prepare(self) -> None:
        self.is_write = self.request.method == "POST"
        await super().prepare()

    async def get(self, team: str) -> None:
        if not self.require_ready():
            return
        if not names.is_team_id(team):
            self.no_team(team)
            return
        try:
            self.answer_status(team, await self.work.archives.status(team))
        except CollabError as error:
            self.answer_cluster(error)

    async def post(self, team: str) -> None:
        if not self.require_ready():
            return
        try:
            request = parse(ArchiveRequest, self.request.body)
            _check(team, request, self.what)
        except BadRequest as error:
            self.answer_error(error)
            return
        if not names.is_team_id(team):
            self.no_team(team)
            return
        orders = [
            (ArchiveOrder(self.what, entry.volume, entry.archive, entry.path), entry.token)
            for entry in request.archives
        ]
        try:
            status = await self.work.archives.start(team, orders, ended=request.ended)
        except CollabError as error:
            self.answer_cluster(error)
            return
        self.answer_status(team, status)


class RestoreHandler(ArchivesHandler):
    """Have copies brought back."""

    what = ArchiveWork.RESTORE


def _check(team: str, request: ArchiveRequest, what: ArchiveWork) -> None:
    """What the fields say together. Raises BadRequest."""
    problems = []
    if not request.archives and not request.ended:
        problems.append(Problem("archives", "nothing", "at least one, or one that has ended"))
    for number, entry in enumerate(request.archives):
        of_team = entry.archive.partition(".")[0]
        if not names.is_archive_id(entry.archive):
            problems.append(
                Problem(f"archives[{number}].archive", repr(entry.archive), "an archive's id")
            )
        elif what is ArchiveWork.SAVE and of_team != team:
            problems.append(
                Problem(f"archives[{number}].archive", f"one of {of_team}", f"one of {team}")
            )
    if problems:
        raise BadRequest(422, "The body is not what it should be.", problems)


class LeftoversHandler(EndingHandler):
    """What still bears a contest. Changes nothing."""

    async def get(self) -> None:
        if not self.require_ready():
            return
        contest = self.get_query_argument("contest", "")
        if not names.is_team_id(contest):
            problem = Problem("contest", repr(contest[:60]), "a contest's id")
            self.answer_error(BadRequest(422, "The query is not right.", [problem]))
            return
        await self._answer(LeftoversRequest(contest=contest))

    async def post(self) -> None:
        if not self.require_ready():
            return
        try:
            request = parse(LeftoversRequest, self.request.body)
        except BadRequest as error:
            self.answer_error(error)
            return
        await self._answer(request)

    async def _answer(self, request: LeftoversRequest) -> None:
        try:
            found = await self.work.leftovers.find(request.contest, request.teams)
        except CollabError as error:
            self.answer_cluster(error)
            return
        now, prefix = datetime.now(timezone.utc), self.work.leftovers.prefix
        self.send(to_wire(request.contest, found, at=now, prefix=prefix))


TABLE: list[tuple[str, type[Handler]]] = [
    ("teams/([^/]+)/archives", ArchivesHandler),
    ("teams/([^/]+)/archives/restore", RestoreHandler),
    ("leftovers", LeftoversHandler),
]
