"""The form in which judges and hosts rank teams: a list, shown as ranks, then kept.

A list is pasted or uploaded, the best first. What is kept is what was shown; from there a host goes
to the dry run of an advance.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tornado.web import HTTPError

from ... import names
from ...errors import Problem, SpecError
from ...managers.contest_refusals import NotNowError
from ...managers.contest_registry import RANKED_MAX
from ...models.contest_life import Action, ContestRecord, TeamRecord, TeamState
from ...policy.contest_access import Right
from ...policy.contest_actions import possible_actions
from ...policy.problems import to_field
from .handlers import Route
from .pages import PageHandler, name_of

_TEXT_MAX: Final = 400_000  # characters: 10,000 ids with their ranks
_PLACE: Final = re.compile(r"[0-9]{1,5}[.):]?")  # "1." before an id says what its line says too
_OUT: Final = frozenset({TeamState.ELIMINATED, TeamState.ARCHIVED, TeamState.DESTROYED})
_PROBLEMS_MAX: Final = 20


@dataclass(frozen=True)
class Rank:
    """A place and whose it is."""

    place: int
    team: str
    name: str
    state: str


class RankingPage(PageHandler):
    """The ranking as it is, and a form for another one."""

    async def get(self, contest: str) -> None:
        record = await self.require(Right.RANK, contest)
        await self._show(record, "\n".join(record.ranking), ())

    async def post(self, contest: str) -> None:
        record = await self.require(Right.RANK, contest)
        text = self._written()
        do = self.get_body_argument("do", "")
        if do not in ("check", "keep"):
            raise HTTPError(422, "Show the ranks, or keep them. Load the page again.")
        ranking = read_ranking(text)
        problems: list[Problem] = []
        message = ""
        try:
            problems = wrong_ids(ranking) or await self.work.registry.check_ranking(record, ranking)
            if do == "keep" and not problems:
                await self.work.registry.rank(record, ranking, by=self.asker.name)
                self.go(f"contests/{contest}/ranking", "ranked")
                return
        except SpecError as error:
            problems = list(error.problems)
        except NotNowError as error:
            message = str(error)
        if problems or message:
            self.set_status(422 if problems else 409)
        await self._show(
            record, text, ranking, is_shown=not message, problems=problems, message=message
        )

    def _written(self) -> str:
        """The list: of the file, if one was sent. Raises HTTPError."""
        files = self.request.files.get("file", [])
        body = files[0]["body"] if files else b""
        if not body.strip():
            return str(self.get_body_argument("ranking", "")[:_TEXT_MAX])
        if len(body) > _TEXT_MAX:
            raise HTTPError(413, f"The file is larger than {_TEXT_MAX} bytes. Send a list of ids.")
        try:
            return str(body.decode("utf-8-sig"))
        except UnicodeDecodeError as e:
            raise HTTPError(
                422, "The file is no text in UTF-8. Save the list as plain text, one id a line."
            ) from e

    async def _show(
        self,
        record: ContestRecord,
        text: str,
        ranking: tuple[str, ...],
        *,
        is_shown: bool = False,
        problems: list[Problem] | tuple[()] = (),
        message: str = "",
    ) -> None:
        store = self.work.store
        teams = {team.id: team for team in await store.teams(record.id)}
        courses = await store.courses(record.id, teams=("",))
        is_host = self.may(Right.HOST, record)
        ranks = to_ranks(ranking if is_shown else record.ranking, teams)
        named = {rank.team for rank in ranks}
        self.show(
            "ranking.html",
            contest=record,
            is_host=is_host,
            may_advance=is_host and Action.ADVANCE in possible_actions(record, courses),
            text=text,
            is_shown=is_shown,
            ranks=ranks,
            left=[t.id for t in teams.values() if t.id not in named and t.state not in _OUT],
            problems=problems[:_PROBLEMS_MAX],
            more=max(0, len(problems) - _PROBLEMS_MAX),
            message=message,
        )


def read_ranking(text: str) -> tuple[str, ...]:
    """Ids of a list, the best first: parted by lines, spaces or commas, with or without places."""
    words = re.split(r"[\s,;]+", text.strip())
    return tuple(word for word in words if word and not _PLACE.fullmatch(word))


def wrong_ids(ranking: tuple[str, ...]) -> list[Problem]:
    """What in a list cannot be teams at all."""
    if not ranking:
        return [Problem("ranking", "nothing", "team ids, the best first, one in a line")]
    if len(ranking) > RANKED_MAX:
        return [Problem("ranking", f"{len(ranking)} teams", f"at most {RANKED_MAX}")]
    return [
        Problem(to_field(("ranking", i)), repr(team[:60]), "the id of a team")
        for i, team in enumerate(ranking)
        if not names.is_team_id(team)
    ]


def to_ranks(ranking: tuple[str, ...], teams: dict[str, TeamRecord]) -> list[Rank]:
    """Places as people read them."""
    found = []
    for place, team in enumerate(ranking, start=1):
        record = teams.get(team)
        name = team[:60] if record is None else name_of(record)
        state = "no team of the contest" if record is None else record.state.value
        found.append(Rank(place, team, name, state))
    return found


ROUTES: Final[list[Route]] = [(r"contests/([^/]+)/ranking", RankingPage)]
