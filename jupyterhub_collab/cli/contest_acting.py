"""Having one action done to a contest, or to some of its teams, by the contests service.

Each team's is an operation of its own. What one is refused stops no other, and what was begun is
told at once, whatever comes after it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Final

import typer

from ..errors import CollabError
from ..hubapi.contests import ContestsClient, ContestsRefusedError
from .contest_answers import Json, say
from .contest_tables import make_action_notes, make_action_tables, make_operation_line
from .contests_service import make_console

LOOK_S: Final = 1.0
_NOT_OF_A_TEAM: Final = (401, 403)  # whoever asks may not, whatever the team


class Acting:
    """One action that a person asked for.

    Parameters
    ----------
    path
        Of the contest's actions.
    bodies
        What is asked for: one, of the contest or of a team, or one for each of several teams.
    """

    def __init__(
        self, client: ContestsClient, path: str, bodies: Sequence[Json], *, as_json: bool
    ) -> None:
        self._client, self._path, self._bodies = client, path, bodies
        self._as_json = as_json
        self._plans: dict[str, Json] = {}
        self._done: dict[str, Json] = {}
        self.refused: dict[str, str] = {}

    async def plan(self) -> bool:
        """Ask what would happen. Whether anything may be done."""
        for body in self._bodies:
            found = await self._post(body, {"dryRun": True})
            if found is not None:
                self._plans[_team(body)] = found
        return bool(self._plans)

    def show_plan(self) -> None:
        """For people: all teams' together."""
        if self._plans:
            show_plan(_together(list(self._plans.values())))

    async def carry_out(self, *, wait: bool) -> None:
        """Do what `plan` found."""
        for body in self._bodies:
            plan = self._plans.get(_team(body))
            if plan is not None:
                answer = await self._post(body, {"planHash": plan["planHash"]})
                if answer is not None:
                    self._keep(_team(body), answer["operation"])
        for team, operation in list(self._done.items()):
            if wait and operation["state"] != "proposed":
                self._keep(team, await self._until_done(operation["number"]))

    def print_json(self, *, is_plan: bool) -> None:
        """For programs: what was answered, of several teams a list with those that were refused."""
        found = self._plans if is_plan else self._done
        if len(self._bodies) == 1:
            answers = list(found.values())
            if answers:
                print(json.dumps(answers[0], indent=2))
            return
        refused = {t: {"team": t, "refused": why} for t, why in self.refused.items()}
        every = {**found, **refused}
        teams = map(_team, self._bodies)
        print(json.dumps([every[team] for team in teams if team in every], indent=2))

    def _keep(self, team: str, operation: Json) -> None:
        self._done[team] = operation
        if not self._as_json:
            say(make_operation_line(operation))
            if operation["state"] == "proposed":
                say(f"Another host: jupyterhub-collab contest approve {operation['number']}")

    async def _post(self, body: Json, more: Json) -> Json | None:
        """The answer; None: this team's is refused, or was not to be had."""
        try:
            return await self._client.post(self._path, {**body, **more})
        except CollabError as error:
            status = error.status if isinstance(error, ContestsRefusedError) else 0
            if len(self._bodies) == 1 or status in _NOT_OF_A_TEAM:
                raise
            self.refused[_team(body)] = str(error)
            typer.echo(f"{_team(body)}: {error}", err=True)
            return None

    async def _until_done(self, number: int) -> Json:
        """The operation, once it has ended."""
        while True:
            found: Json = (await self._client.get(f"operations/{number}"))["operation"]
            if found["state"] not in ("running", "proposed"):
                return found
            await asyncio.sleep(LOOK_S)


def show_plan(plan: Json) -> None:
    """What an action would change, for people."""
    console = make_console()
    for table in make_action_tables(plan):
        console.print(table)
        console.print("")
    for note in make_action_notes(plan):
        say(note)


def _team(body: Json) -> str:
    """Empty: it is of the whole contest."""
    return str(body.get("team") or "")


def _together(plans: Sequence[Json]) -> Json:
    """Plans of the same action for several teams, as one to be shown."""
    lists = {
        key: [item for plan in plans for item in plan[key]]
        for key in ("transitions", "courses", "irreversible")
    }
    return {**plans[0], **lists, "needsSecond": any(plan["needsSecond"] for plan in plans)}
