"""`jupyterhub-collab plan`, `apply` and `schema`: the contest manifest, through the registry."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from ..errors import PermanentError, SpecError, UserError
from ..hubapi.contests import ContestsClient
from ..models import ContestManifest
from ..platform_file import make_platform
from ..policy import contest_difference
from ..policy.contest_manifest import ContestPlan, contest_schema, parse_contest_manifest
from .contests_service import ContestsUrl, HubUrl, TokenFile, make_console, run
from .plan_table import (
    make_destroy_note,
    make_gone_note,
    make_plan_table,
    make_summary,
    to_label,
)

EXIT_CHANGES: Final = 2
LOOK_S: Final = 0.3
PATIENCE_S: Final = 20.0  # with groups that the service says it cannot write
LONGEST_S: Final = 3600.0

File = Annotated[Path, typer.Argument(metavar="FILE", help="The contest manifest (YAML).")]
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
    contests_url: ContestsUrl = None,
    token_file: TokenFile = None,
    platform: PlatformFile = None,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit with 2 when there are changes.")
    ] = False,
) -> None:
    """Show what `apply` would change on the hub. Changes nothing."""
    manifest = _read_manifest(file, platform)
    path = f"contests/{manifest.contest.id}/plan"
    wire = manifest.to_wire()
    found = _to_plan(run(hub_url, contests_url, token_file, lambda c: c.post(path, wire)))
    console = make_console()
    if found.changes or found.gone:
        console.print(make_plan_table(found))
    console.print(make_summary(found), markup=False)
    _print_notes(found)
    if detailed_exitcode and not found.is_empty:
        raise typer.Exit(EXIT_CHANGES)


def apply(
    file: File,
    hub_url: HubUrl = None,
    contests_url: ContestsUrl = None,
    token_file: TokenFile = None,
    platform: PlatformFile = None,
) -> None:
    """Make the hub's teams as the manifest says. Deletes no group; safe to repeat."""
    manifest = _read_manifest(file, platform)
    console = make_console()
    done = run(hub_url, contests_url, token_file, lambda c: apply_manifest(c, manifest))
    for change in done.changes:
        word = "created" if change.action.value == "create" else "changed"
        console.print(f"{to_label(change.group)} {word}", markup=False)
    if done.is_empty:
        console.print(make_summary(done), markup=False)
    _print_notes(done)


async def apply_manifest(client: ContestsClient, manifest: ContestManifest) -> ContestPlan:
    """Bring the registry after a manifest, and wait until the hub's groups are; what changed.

    Raises
    ------
    SpecError, UserError, RetryableError, PermanentError
        The service refused it, does not answer, or cannot write some groups just now.
    """
    contest = manifest.contest.id
    done = _to_plan(await client.put(f"contests/{contest}/manifest", manifest.to_wire()))
    await _until_projected(client, contest)
    return done


def schema() -> None:
    """Print the manifest's JSON Schema, for editors that complete YAML."""
    print(json.dumps(contest_schema(), indent=2))


async def _until_projected(client: ContestsClient, contest: str) -> None:
    """Until the hub's groups are as the registry has them.

    Raises
    ------
    PermanentError
        The service says that it cannot write some. It goes on trying.
    """
    began = time.monotonic()
    while True:
        progress = await client.get(f"contests/{quote(contest, safe='')}/progress")
        if not progress["behindCount"]:
            return
        problems: list[dict[str, Any]] = progress["problems"]
        waited_s = time.monotonic() - began
        is_stuck = len(problems) == progress["behindCount"] and waited_s > PATIENCE_S
        if is_stuck or waited_s > LONGEST_S:
            said = "\n".join(f"{p['group']}: {p['why']}" for p in problems[:10])
            raise PermanentError(
                "the registry has what the manifest says, but the hub's groups could not be"
                f" brought after it yet; the service goes on trying:\n{said}"
            )
        await asyncio.sleep(LOOK_S)


def _to_plan(said: dict[str, Any]) -> ContestPlan:
    try:
        return contest_difference.from_wire(said)
    except ValueError as e:
        raise PermanentError(
            "the contests service answered with no plan: is it newer than this program?"
        ) from e


def _print_notes(plan: ContestPlan) -> None:
    for note in (make_destroy_note(plan), make_gone_note(plan)):
        if note is not None:
            make_console().print(note, markup=False)


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
