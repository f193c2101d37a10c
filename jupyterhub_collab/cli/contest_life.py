"""`jupyterhub-collab contest ...`: the life of a contest, from opening it to its certificate.

Every action shows its dry run first, and does exactly what was shown or nothing. It must not decide
what may be done: the service does.
"""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from .. import names
from ..errors import UserError
from ..hubapi.contests import ContestsClient
from ..models.contest_life import Action
from ..policy.contest_actions import CONTEST_ACTIONS, TEAM_ACTIONS
from .contest_acting import LOOK_S, Acting, show_plan
from .contest_answers import AsJson, Contest, Json, Wait, say, show, to_id
from .contest_looking import contests
from .contest_tables import (
    make_job_line,
    make_notice_line,
    make_operation_line,
)
from .contests_service import ContestsUrl, HubUrl, TokenFile, run

_TIME: Final = re.compile(r"([0-9]{1,9})([smhd]?)")
_UNITS_S: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SAID: Final = {
    Action.OPEN: "Open registration.",
    Action.START: "Start the contest: its first round, if it has rounds.",
    Action.CLOSE_ROUND: "Close the round: everything can be read, nothing changed.",
    Action.REOPEN_ROUND: "Open the round again that was closed.",
    Action.ADVANCE: "Go on to the next round with the teams that are kept; the others are out.",
    Action.FINISH: "End the contest: teams may read and export.",
    Action.ARCHIVE: "Have volumes copied to the archive, of a contest that is finished or a team.",
    Action.DESTROY: "Delete all that a contest, or a team, has. Can be undone until it begins.",
    Action.FREEZE: "Stop servers after notice; they may start again with everything read-only.",
    Action.LIFT: "Lift a freeze.",
    Action.ADMIT: "Let a registered team in.",
    Action.REJECT: "Do not let a registered team in.",
    Action.ELIMINATE: "Put one team out of the contest.",
    Action.RESTORE: "Take a team in again, after an appeal.",
}

Teams = Annotated[
    list[str] | None,
    typer.Option(
        "--team", metavar="TEAM", help="One team, or several: once for each; else the contest."
    ),
]
Keep = Annotated[
    str | None,
    typer.Option(metavar="FILE|top:N", help="Of advance: who goes on, one a line; or by ranking."),
]
Notice = Annotated[
    str | None, typer.Option(metavar="TIME", help="Until servers are stopped: 90, 30m, 24h, 2d.")
]
Reason = Annotated[str, typer.Option(help="For the record, and for the teams.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would happen; do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for action in Action:
        _add_action(action)
    app.add_typer(contests, name="contest")


def _add_action(action: Action) -> None:
    def command(
        contest: Contest,
        team: Teams = None,
        keep: Keep = None,
        notice: Notice = None,
        reason: Reason = "",
        dry_run: DryRun = False,
        yes: Yes = False,
        wait: Wait = False,
        hub_url: HubUrl = None,
        contests_url: ContestsUrl = None,
        token_file: TokenFile = None,
        as_json: AsJson = False,
    ) -> None:
        path = f"contests/{to_id(contest)}/actions"
        bodies = _to_bodies(action, team, keep, notice, reason)
        if as_json and not dry_run:
            _need_yes(yes)

        async def work(client: ContestsClient) -> bool:
            acting = Acting(client, path, bodies, as_json=as_json)
            try:
                may = await acting.plan()
                if not as_json:
                    acting.show_plan()
                if may and not dry_run:
                    _make_sure(yes)
                    await acting.carry_out(wait=wait)
            finally:  # what was begun is told, whatever went wrong after it
                if as_json:
                    acting.print_json(is_plan=dry_run)
            return not acting.refused

        if not run(hub_url, contests_url, token_file, work):
            raise typer.Exit(1)

    contests.command(action.value, help=_SAID[action])(command)


def _to_bodies(
    action: Action, teams: list[str] | None, keep: str | None, notice: str | None, reason: str
) -> list[Json]:
    """What is asked for, team by team. Raises UserError."""
    if action not in CONTEST_ACTIONS and not teams:
        raise UserError(f"{action.value} is of one team: say which with --team TEAM")
    if action not in TEAM_ACTIONS and teams:
        raise UserError(f"{action.value} is of a whole contest: leave --team out")
    body: Json = {"action": action.value, "reason": reason, **_read_keep(keep)}
    if notice is not None:
        body["noticeSeconds"] = _read_time(notice)
    return [{**body, "team": to_id(team)} for team in dict.fromkeys(teams or ())] or [body]


@contests.command()
def rank(
    contest: Contest,
    file: Annotated[Path, typer.Argument(help="Teams from best to worst, one a line.")],
    hub_url: HubUrl = None,
    contests_url: ContestsUrl = None,
    token_file: TokenFile = None,
) -> None:
    """Say how the teams rank now; `advance --keep top:N` goes by it."""
    body = {"ranking": _read_teams(file)}
    path = f"contests/{to_id(contest)}/ranking"
    run(hub_url, contests_url, token_file, lambda c: c.put(path, body))
    say(f"{len(body['ranking'])} teams ranked.")


Number = Annotated[int, typer.Argument(metavar="OPERATION", min=1, help="Its number.")]


@contests.command()
def approve(
    number: Number,
    hub_url: HubUrl = None,
    contests_url: ContestsUrl = None,
    token_file: TokenFile = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Approve what another host proposed, after looking at what it would do now."""

    if as_json:
        _need_yes(yes)

    async def work(client: ContestsClient) -> Json:
        found = (await client.get(f"operations/{number}"))["operation"]
        if not as_json:
            say(make_operation_line(found))
            body = {**found["request"], "dryRun": True}
            show_plan(await client.post(f"contests/{to_id(found['contest'])}/actions", body))
        _make_sure(yes)
        done: Json = (await client.post(f"operations/{number}/approve", {}))["operation"]
        return done

    done = run(hub_url, contests_url, token_file, work)
    show(done, make_operation_line, as_json=as_json)


@contests.command()
def decline(
    number: Number,
    hub_url: HubUrl = None,
    contests_url: ContestsUrl = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Decline what another host proposed, or take back what you did."""
    path = f"operations/{number}/decline"
    done = run(hub_url, contests_url, token_file, lambda c: c.post(path, {}))
    show(done["operation"], make_operation_line, as_json=as_json)


@contests.command()
def notify(
    contest: Contest,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to say; - reads it.")],
    team: Annotated[
        list[str] | None, typer.Option(metavar="TEAM", help="To one team, or several; else all.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=366, help="For so long it is shown.")] = 14,
    hub_url: HubUrl = None,
    contests_url: ContestsUrl = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Tell a team, or all teams of a contest, something: on the hub, in JupyterLab, by mail."""
    body: Json = {"text": _read_text(text), "days": days}
    path = f"contests/{to_id(contest)}/notices"
    chosen = [{**body, "team": to_id(one)} for one in dict.fromkeys(team or ())] or [body]

    async def work(client: ContestsClient) -> None:
        for said in chosen:
            done = await client.post(path, said)
            show(done["notice"], make_notice_line, as_json=as_json)

    run(hub_url, contests_url, token_file, work)


@contests.command()
def rebuild(
    contest: Annotated[str | None, typer.Argument(help="One contest; all if none.")] = None,
    hub_url: HubUrl = None,
    contests_url: ContestsUrl = None,
    token_file: TokenFile = None,
) -> None:
    """Write the hub's groups anew after the registry."""
    body = {} if contest is None else {"contest": to_id(contest)}
    run(hub_url, contests_url, token_file, lambda c: c.post("rebuild", body))
    say("The service brings the hub's groups after the registry; `contest status` says how far.")


@contests.command(name="restore-archive")
def restore_archive(
    archive: Annotated[str, typer.Argument(metavar="ARCHIVE", help="The copy's id.")],
    team: Annotated[str, typer.Option(metavar="TEAM", help="Into whose volume.")],
    volume: Annotated[
        str | None, typer.Option(metavar="VOLUME", help="Its name; else as the copy's was.")
    ] = None,
    wait: Wait = False,
    hub_url: HubUrl = None,
    contests_url: ContestsUrl = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Bring a copy back into a team's volume. Nothing that is in it is overwritten."""
    path = f"teams/{to_id(team)}/archives"
    body = {"archive": archive} | ({} if volume is None else {"volume": volume})

    async def work(client: ContestsClient) -> Json:
        found = await client.post(f"{path}/restore", body)
        while True:
            jobs = [j for j in found["jobs"] if (j["work"], j["archive"]) == ("restore", archive)]
            if jobs and (not wait or jobs[0]["state"] in ("done", "failed")):
                job: Json = jobs[0]
                return job
            await asyncio.sleep(LOOK_S)
            # What has no place yet begins when it is asked for again.
            found = await (client.get(path) if jobs else client.post(f"{path}/restore", body))

    job = run(hub_url, contests_url, token_file, work)
    show(job, make_job_line, as_json=as_json)
    if job["state"] == "failed":
        raise UserError("It could not be brought back. The Job's log in the namespace says why.")


def _need_yes(yes: bool) -> None:
    """Raises UserError: a program cannot be asked."""
    if not yes:
        raise UserError("nothing was done: with --json nobody is asked; add --yes, or --dry-run")


def _make_sure(yes: bool) -> None:
    """Ask the person. Raises UserError: there is none, typer.Exit: they said no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError("nothing was done: add --yes to do it where nobody can be asked")
    if not typer.confirm("Do this?"):
        raise typer.Exit(1)


def _read_time(text: str) -> int:
    """Seconds. Raises UserError."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise UserError(f"--notice {text!r} is no time; write 90 (seconds), 30m, 24h or 2d")
    return int(found[1]) * _UNITS_S[found[2]]


def _read_keep(text: str | None) -> Json:
    """Who goes on. Raises UserError."""
    if text is None:
        return {}
    if text.startswith("top:"):
        number = text.removeprefix("top:")
        if not (number.isascii() and number.isdigit() and len(number) < 7):
            raise UserError(f"--keep {text!r}: write top:N with a number, such as top:10")
        return {"top": int(number)}
    return {"keep": _read_teams(Path(text))}


def _read_text(text: str) -> str:
    """What to say; ``-`` is what comes in. Raises UserError."""
    if text != "-":
        return text.strip()
    try:
        return sys.stdin.read().strip()
    except UnicodeDecodeError as e:
        raise UserError(f"what comes in is no text: {e}") from e


def _read_teams(file: Path) -> list[str]:
    """Ids, one a line; what follows # is for people. Raises UserError."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{file} cannot be read: {e}") from e
    found = []
    for number, line in enumerate(lines, 1):
        team = line.partition("#")[0].strip()
        if team and not names.is_team_id(team):
            raise UserError(f"{file}:{number}: {team!r} is no team: {names.TEAM_ID_RULE}")
        if team:
            found.append(team)
    return found
