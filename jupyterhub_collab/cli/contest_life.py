"""`jupyterhub-collab contest ...`: the life of a contest, from opening it to its certificate.

Every action shows its dry run first, and does exactly what was shown or nothing. It must not decide
what may be done: the service does.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import quote

import typer

from .. import names
from ..errors import UserError
from ..hubapi.contests import ContestsClient
from ..models.contest_life import Action
from ..policy import teardown_certificate
from ..policy.checkpoint import KeyTextError, LogVerifier
from ..policy.contest_actions import CONTEST_ACTIONS, TEAM_ACTIONS
from . import contests_service
from .contest_tables import (
    make_action_notes,
    make_action_tables,
    make_archives_table,
    make_contests_table,
    make_job_line,
    make_operation_line,
    make_status_tables,
    make_teams_table,
)
from .contests_service import ContestsUrl, HubUrl, TokenFile, make_console

T = TypeVar("T")
Json = dict[str, Any]
LOOK_S: Final = 1.0
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

contests = typer.Typer(
    help="The life of a contest: rounds, freezing, destruction, approvals, certificate.",
    no_args_is_help=True,
)

Contest = Annotated[str, typer.Argument(metavar="CONTEST", help="The contest's id.")]
AsJson = Annotated[bool, typer.Option("--json", help="The service's answer, for programs.")]
Team = Annotated[str | None, typer.Option(metavar="TEAM", help="One team; else the contest.")]
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
Wait = Annotated[bool, typer.Option("--wait", help="Until it is done.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for action in Action:
        _add_action(action)
    app.add_typer(contests, name="contest")


def _add_action(action: Action) -> None:
    def command(
        contest: Contest,
        team: Team = None,
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
        body = _to_body(action, team, keep, notice, reason)
        path = f"contests/{_id(contest)}/actions"

        async def work(client: ContestsClient) -> None:
            plan = await client.post(path, {**body, "dryRun": True})
            if not as_json:
                _show_plan(plan)
            elif dry_run:
                print(json.dumps(plan, indent=2))
            if dry_run:
                return
            _make_sure(yes)
            done = await client.post(path, {**body, "planHash": plan["planHash"]})
            operation = done["operation"]
            if wait and operation["state"] != "proposed":
                operation = await _until_done(client, operation["number"])
            _show(operation, make_operation_line, as_json=as_json)
            if not as_json and operation["state"] == "proposed":
                _say(f"Another host: jupyterhub-collab contest approve {operation['number']}")

        _ask(hub_url, contests_url, token_file, work)

    contests.command(action.value, help=_SAID[action])(command)


def _to_body(
    action: Action, team: str | None, keep: str | None, notice: str | None, reason: str
) -> Json:
    """What is asked for. Raises UserError."""
    if action not in CONTEST_ACTIONS and not team:
        raise UserError(f"{action.value} is of one team: say which with --team TEAM")
    if action not in TEAM_ACTIONS and team:
        raise UserError(f"{action.value} is of a whole contest: leave --team out")
    body: Json = {"action": action.value, "reason": reason, **_read_keep(keep)}
    if team:
        body["team"] = _id(team)
    if notice is not None:
        body["noticeSeconds"] = _read_time(notice)
    return body


@contests.command("list")
def list_(
    hub_url: HubUrl = None,
    contests_url: ContestsUrl = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """All contests that you may see."""
    found = _ask(hub_url, contests_url, token_file, lambda c: c.get("contests"))
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        make_console().print(make_contests_table(found["contests"]))


@contests.command()
def status(
    contest: Contest,
    hub_url: HubUrl = None,
    contests_url: ContestsUrl = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Where a contest is: teams by state, what is stuck and why, what comes when."""

    async def work(client: ContestsClient) -> tuple[Json, Json]:
        path = f"contests/{_id(contest)}"
        waiting = await client.get(f"{path}/operations?state=proposed")
        return await client.get(f"{path}/progress"), waiting

    found, waiting = _ask(hub_url, contests_url, token_file, work)
    if as_json:
        print(json.dumps({**found, "proposed": waiting["operations"]}, indent=2))
        return
    console = make_console()
    console.print(make_contests_table([found["contest"]]))
    for table in make_status_tables(found):
        console.print("")
        console.print(table)
    for operation in waiting["operations"]:
        _say(f"Waits for a second host. {make_operation_line(operation)}")


@contests.command()
def teams(
    contest: Contest,
    state: Annotated[list[str] | None, typer.Option(help="Only of this state.")] = None,
    hub_url: HubUrl = None,
    contests_url: ContestsUrl = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """All teams of a contest."""
    wanted = "".join(f"&state={quote(s, safe='')}" for s in state or ())

    async def work(client: ContestsClient) -> list[Json]:
        found: list[Json] = []
        after: str | None = ""
        while after is not None:
            page = await client.get(f"contests/{_id(contest)}/teams?after={after}{wanted}")
            found += page["teams"]
            after = page["next"]
        return found

    found = _ask(hub_url, contests_url, token_file, work)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        make_console().print(make_teams_table(found))


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
    path = f"contests/{_id(contest)}/ranking"
    _ask(hub_url, contests_url, token_file, lambda c: c.put(path, body))
    _say(f"{len(body['ranking'])} teams ranked.")


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

    async def work(client: ContestsClient) -> Json:
        found = (await client.get(f"operations/{number}"))["operation"]
        if not as_json:
            _say(make_operation_line(found))
            body = {**found["request"], "dryRun": True}
            _show_plan(await client.post(f"contests/{_id(found['contest'])}/actions", body))
        _make_sure(yes)
        done: Json = (await client.post(f"operations/{number}/approve", {}))["operation"]
        return done

    done = _ask(hub_url, contests_url, token_file, work)
    _show(done, make_operation_line, as_json=as_json)


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
    done = _ask(hub_url, contests_url, token_file, lambda c: c.post(path, {}))
    _show(done["operation"], make_operation_line, as_json=as_json)


@contests.command()
def rebuild(
    contest: Annotated[str | None, typer.Argument(help="One contest; all if none.")] = None,
    hub_url: HubUrl = None,
    contests_url: ContestsUrl = None,
    token_file: TokenFile = None,
) -> None:
    """Write the hub's groups anew after the registry."""
    body = {} if contest is None else {"contest": _id(contest)}
    _ask(hub_url, contests_url, token_file, lambda c: c.post("rebuild", body))
    _say("The service brings the hub's groups after the registry; `contest status` says how far.")


@contests.command()
def certificate(
    contest: Contest,
    hub_url: HubUrl = None,
    contests_url: ContestsUrl = None,
    token_file: TokenFile = None,
) -> None:
    """Print the signed certificate that nothing is left of a contest."""
    path = f"contests/{_id(contest)}/certificate"
    print(_ask(hub_url, contests_url, token_file, lambda c: c.get_text(path)), end="")


@contests.command()
def archives(
    contest: Contest,
    hub_url: HubUrl = None,
    contests_url: ContestsUrl = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """List the copies of a contest's volumes."""

    async def work(client: ContestsClient) -> list[Json]:
        found: list[Json] = []
        after: str | None = ""
        while after is not None:
            path = f"contests/{_id(contest)}/archives?after={quote(after, safe='')}"
            page = await client.get(path)
            found += page["archives"]
            after = page["next"]
        return found

    found = _ask(hub_url, contests_url, token_file, work)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        make_console().print(make_archives_table(found))


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
    path = f"teams/{_id(team)}/archives"
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

    job = _ask(hub_url, contests_url, token_file, work)
    _show(job, make_job_line, as_json=as_json)
    if job["state"] == "failed":
        raise UserError("It could not be brought back. The Job's log in the namespace says why.")


@contests.command(name="verify-certificate")
def verify_certificate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The certificate.")],
    key: Annotated[
        Path, typer.Option("--key", help="The public key of the contests service that signed it.")
    ],
) -> None:
    """Check a certificate, offline: what it says, or why it is none."""
    try:
        verifier = LogVerifier.from_text(key.read_text(encoding="utf-8"))
        found = teardown_certificate.verify_certificate(file.read_text("utf-8"), verifier)
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"The certificate or its key cannot be read: {e}") from e
    except (KeyTextError, teardown_certificate.CertificateError) as e:
        raise UserError(f"This certificate is not good. {e}") from e
    for line in teardown_certificate.tell_certificate(found):
        print(line)


def _ask(
    hub_url: str | None,
    contests_url: str | None,
    token_file: Path | None,
    use: Callable[[ContestsClient], Awaitable[T]],
) -> T:
    return contests_service.run(hub_url, contests_url, token_file, use)


async def _until_done(client: ContestsClient, number: int) -> Json:
    """The operation, once it has ended."""
    while True:
        found: Json = (await client.get(f"operations/{number}"))["operation"]
        if found["state"] not in ("running", "proposed"):
            return found
        await asyncio.sleep(LOOK_S)


def _make_sure(yes: bool) -> None:
    """Ask the person. Raises UserError: there is none, typer.Exit: they said no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError("nothing was done: add --yes to do it where nobody can be asked")
    if not typer.confirm("Do this?"):
        raise typer.Exit(1)


def _show_plan(plan: Json) -> None:
    console = make_console()
    for table in make_action_tables(plan):
        console.print(table)
        console.print("")
    for note in make_action_notes(plan):
        _say(note)


def _show(found: Json, to_line: Callable[[Json], str], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _say(to_line(found))


def _say(text: str) -> None:
    make_console().print(text, markup=False)


def _id(text: str) -> str:
    """Raises UserError: no contest can be called so."""
    if not names.is_team_id(text):
        raise UserError(f"{text!r} is no id: {names.TEAM_ID_RULE}")
    return text


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
