"""`jupyterhub-collab contest ...`: looking at contests and teams, what happened, what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer
from rich.table import Table

from ..errors import UserError
from ..hubapi.contests import ContestsClient
from ..policy import teardown_certificate
from ..policy.checkpoint import KeyTextError, LogVerifier
from .contest_answers import AsJson, Contest, Json, read_all, say, show_tables, to_id
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
from .contests_service import ContestsUrl, HubUrl, TokenFile, run

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
    found = run(hub_url, contests_url, token_file, lambda c: c.get("contests"))
    show_tables(found, lambda: [make_contests_table(found["contests"])], as_json=as_json)


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

    found, waiting = run(hub_url, contests_url, token_file, work)
    proposed = waiting["operations"]

    def to_tables() -> list[Table]:
        return [make_contests_table([found["contest"]]), *make_status_tables(found)]

    show_tables({**found, "proposed": proposed}, to_tables, as_json=as_json)
    for operation in () if as_json else proposed:
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
    found = run(hub_url, contests_url, token_file, lambda c: read_all(c, path, "teams", wanted))
    show_tables(found, lambda: [make_teams_table(found)], as_json=as_json)


@contests.command()
def team(
    team: Annotated[str, typer.Argument(metavar="TEAM", help="The team's id.")],
    hub_url: HubUrl = None,
    contests_url: ContestsUrl = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """One team: who is in it, what is under way with it, what could be done."""
    found = run(hub_url, contests_url, token_file, lambda c: c.get(f"teams/{to_id(team)}"))
    show_tables(found, lambda: make_team_tables(found), as_json=as_json)


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
    found = run(hub_url, contests_url, token_file, lambda c: c.get(path))
    show_tables(found, lambda: [make_history_table(found["transitions"])], as_json=as_json)


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
    found = run(hub_url, contests_url, token_file, lambda c: c.get(path))
    show_tables(found, lambda: [make_operations_table(found["operations"])], as_json=as_json)


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
    found = run(hub_url, contests_url, token_file, lambda c: c.get(path))
    show_tables(found, lambda: [make_notices_table(found["notices"])], as_json=as_json)


@contests.command()
def certificate(
    contest: Contest,
    hub_url: HubUrl = None,
    contests_url: ContestsUrl = None,
    token_file: TokenFile = None,
) -> None:
    """Print the signed certificate that nothing is left of a contest."""
    path = f"contests/{to_id(contest)}/certificate"
    print(run(hub_url, contests_url, token_file, lambda c: c.get_text(path)), end="")


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
    found = run(hub_url, contests_url, token_file, lambda c: read_all(c, path, "archives"))
    show_tables(found, lambda: [make_archives_table(found)], as_json=as_json)


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
