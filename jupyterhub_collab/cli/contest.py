"""`jupyterhub-collab plan`, `apply` and `schema`: the contest manifest on a hub.

The token comes from a file or the environment, never from the command line: others on the machine
can read that.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer
from rich.console import Console

from ..errors import SpecError, UserError
from ..factory import make_platform
from ..hubapi.client import HubClient, to_api_url
from ..managers.contest import ContestManager, TeamRegistry
from ..models import ContestManifest
from ..policy.contest_manifest import (
    ContestPlan,
    GroupChange,
    contest_schema,
    parse_contest_manifest,
)
from .plan_table import (
    make_destroy_note,
    make_gone_note,
    make_plan_table,
    make_summary,
    to_label,
)

HUB_URL_VARIABLE: Final = "JUPYTERHUB_COLLAB_HUB_URL"
TOKEN_VARIABLE: Final = "JUPYTERHUB_COLLAB_TOKEN"  # noqa: S105 - a name
EXIT_CHANGES: Final = 2

T = TypeVar("T")
File = Annotated[Path, typer.Argument(metavar="FILE", help="The contest manifest (YAML).")]
HubUrl = Annotated[
    str | None,
    typer.Option(envvar=HUB_URL_VARIABLE, help="The hub's address: https://hub.example.org"),
]
TokenFile = Annotated[
    Path | None, typer.Option(help=f"File that holds the API token; or set {TOKEN_VARIABLE}.")
]
PlatformFile = Annotated[
    Path | None,
    typer.Option(
        "--platform", help="Settings of the platform (JSON): checks drivers and private networks."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(plan)
    app.command()(apply)
    app.command()(schema)


def plan(
    file: File,
    hub_url: HubUrl = None,
    token_file: TokenFile = None,
    platform: PlatformFile = None,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit with 2 when there are changes.")
    ] = False,
) -> None:
    """Show what `apply` would change on the hub. Changes nothing."""
    manifest = _read_manifest(file, platform)
    found = _run(hub_url, token_file, lambda manager: manager.plan(manifest))
    console = _console()
    if found.changes or found.gone:
        console.print(make_plan_table(found))
    console.print(make_summary(found), markup=False)
    _print_notes(console, found)
    if detailed_exitcode and not found.is_empty:
        raise typer.Exit(EXIT_CHANGES)


def apply(
    file: File,
    hub_url: HubUrl = None,
    token_file: TokenFile = None,
    platform: PlatformFile = None,
) -> None:
    """Make the hub's teams as the manifest says. Deletes no group; safe to repeat."""
    manifest = _read_manifest(file, platform)
    console = _console()

    def report(change: GroupChange) -> None:
        done = "created" if change.action.value == "create" else "changed"
        console.print(f"{to_label(change.group)} {done}", markup=False)

    done = _run(hub_url, token_file, lambda manager: manager.apply(manifest, report=report))
    if done.is_empty:
        console.print(make_summary(done), markup=False)
    _print_notes(console, done)


def schema() -> None:
    """Print the manifest's JSON Schema, for editors that complete YAML."""
    print(json.dumps(contest_schema(), indent=2))


def _print_notes(console: Console, plan: ContestPlan) -> None:
    for note in (make_destroy_note(plan), make_gone_note(plan)):
        if note is not None:
            console.print(note, markup=False)


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _read_manifest(file: Path, platform: Path | None) -> ContestManifest:
    try:
        text = file.read_bytes()
    except OSError as e:
        raise UserError(f"{file} cannot be read: {e.strerror or e}") from e
    settings = make_platform(platform) if platform is not None else None
    try:
        return parse_contest_manifest(text, file=str(file), platform=settings)
    except SpecError as e:
        # Bare lines, so that editors and CI find FILE:LINE at their beginnings.
        print(e, file=sys.stderr)
        count = len(e.problems)
        print(f"{count} {'problem' if count == 1 else 'problems'} in {file}", file=sys.stderr)
        raise typer.Exit(1) from e


def read_token(token_file: Path | None) -> str:
    """The hub's API token, of a file or the environment. Raises UserError."""
    if token_file is not None:
        try:
            token = token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as e:
            raise UserError(f"the token file {token_file} cannot be read: {e}") from e
        source = str(token_file)
    else:
        token, source = os.environ.get(TOKEN_VARIABLE, "").strip(), TOKEN_VARIABLE
    if not token:
        raise UserError(
            f"no API token: give --token-file FILE or set {TOKEN_VARIABLE} (a service's token, or"
            " an admin's own from the hub's token page)"
        )
    if not token.isascii() or not token.isprintable() or " " in token:
        raise UserError(f"{source} holds no token: one line of letters and digits is expected")
    return token


def _run(
    hub_url: str | None, token_file: Path | None, use: Callable[[ContestManager], Awaitable[T]]
) -> T:
    """Use a manager on the hub that the options name."""
    if not hub_url:
        raise UserError(f"no hub: give --hub-url URL or set {HUB_URL_VARIABLE}")
    api_url, token = to_api_url(hub_url), read_token(token_file)

    async def run() -> T:
        async with HubClient(api_url, token) as hub:
            return await use(ContestManager(TeamRegistry(hub)))

    return asyncio.run(run())
