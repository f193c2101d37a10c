"""`jupyterhub-collab contest ...`: looking at contests and teams, what happened, what is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from ..errors import UserError
from ..hubapi.contests import ContestsClient
from ..policy import teardown_certificate
from ..policy.checkpoint import KeyTextError, LogVerifier
from .contest_asking import AsJson, Contest, Json, ask, read_all, say, to_id
from .contest_tables import (
    make_archives_table,
    make_contests_table,
    make_history_table,
    make_notices_table,
    make_operation_line,
    make_operations_table,
    make_status_tables,
    make_team_tables,
    make_teams_table,
)
from .contests_service import ContestsUrl, HubUrl, TokenFile, make_console

contests = typer.Typer(
    help="The life of a contest: rounds, freezing, destruction, approvals, certificate.",
    no_args_is_help=True,
)

Limit = Annotated[int, typer.Option(metavar="N", min=1, max=500, help="How many, the newest.")]


@contests.command("list")
def list_(
    hub_url: HubUrl = None,
    contests_url: ContestsUrl = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """All contests that you may see."""
    found = ask(hub_url, contests_url, token_file, lambda c: c.get("contests"))
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
        path = f"contests/{to_id(contest)}"
        waiting = await client.get(f"{path}/operations?state=proposed")
        return await client.get(f"{path}/progress"), waiting

    found, waiting = ask(hub_url, contests_url, token_file, work)
    if as_json:
        print(json.dumps({**found, "proposed": waiting["operations"]}, indent=2))
        return
    console = make_console()
    console.print(make_contests_table([found["contest"]]))
    for table in make_status_tables(found):
        console.print("")
        console.print(table)
    for operation in waiting["operations"]:
        say(f"Waits for a second host. {make_operation_line(operation)}")


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
    path = f"contests/{to_id(contest)}/teams"
    found = ask(hub_url, contests_url, token_file, lambda c: read_all(c, path, "teams", wanted))
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        make_console().print(make_teams_table(found))


@contests.command()
def team(
    team: Annotated[str, typer.Argument(metavar="TEAM", help="The team's id.")],
    hub_url: HubUrl = None,
    contests_url: ContestsUrl = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """One team: who is in it, what is under way with it, what could be done."""
    found = ask(hub_url, contests_url, token_file, lambda c: c.get(f"teams/{to_id(team)}"))
    if as_json:
        print(json.dumps(found, indent=2))
        return
    console = make_console()
    for number, table in enumerate(make_team_tables(found)):
        if number:
            console.print("")
        console.print(table)


@contests.command()
def history(
    contest: Contest,
    team: Annotated[str | None, typer.Option(metavar="TEAM", help="Of one team.")] = None,
    limit: Limit = 50,
    hub_url: HubUrl = None,
    contests_url: ContestsUrl = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """What happened to a contest and its teams, the newest first."""
    path = f"contests/{to_id(contest)}/transitions?limit={limit}"
    path += "" if team is None else f"&team={to_id(team)}"
    found = ask(hub_url, contests_url, token_file, lambda c: c.get(path))
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        make_console().print(make_history_table(found["transitions"]))


@contests.command()
def operations(
    contest: Contest,
    limit: Limit = 50,
    hub_url: HubUrl = None,
    contests_url: ContestsUrl = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """What hosts asked for, and what became of it, the newest first."""
    path = f"contests/{to_id(contest)}/operations?limit={limit}"
    found = ask(hub_url, contests_url, token_file, lambda c: c.get(path))
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        make_console().print(make_operations_table(found["operations"]))


@contests.command()
def notices(
    contest: Contest,
    hub_url: HubUrl = None,
    contests_url: ContestsUrl = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Notices in force, and where they could not be brought."""
    path = f"contests/{to_id(contest)}/notices"
    found = ask(hub_url, contests_url, token_file, lambda c: c.get(path))
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        make_console().print(make_notices_table(found["notices"]))


@contests.command()
def certificate(
    contest: Contest,
    hub_url: HubUrl = None,
    contests_url: ContestsUrl = None,
    token_file: TokenFile = None,
) -> None:
    """Print the signed certificate that nothing is left of a contest."""
    path = f"contests/{to_id(contest)}/certificate"
    print(ask(hub_url, contests_url, token_file, lambda c: c.get_text(path)), end="")


@contests.command()
def archives(
    contest: Contest,
    hub_url: HubUrl = None,
    contests_url: ContestsUrl = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """List the copies of a contest's volumes."""
    path = f"contests/{to_id(contest)}/archives"
    found = ask(hub_url, contests_url, token_file, lambda c: read_all(c, path, "archives"))
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        make_console().print(make_archives_table(found))


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
