"""Applies the run's contest manifests, as `jupyterhub-collab apply` does."""

from __future__ import annotations

from pathlib import Path

from ...errors import UserError
from ...hubapi.contests import ContestsClient
from ...models import ContestManifest, Platform
from ...policy.contest_manifest import parse_contest_manifest
from ..contest import apply_manifest as apply


def read_manifest(path: Path, platform: Platform) -> ContestManifest:
    """A manifest that this platform can have.

    Raises
    ------
    UserError
        It cannot be read, or its SpecError: all that is wrong with it, by line.
    """
    try:
        text = path.read_bytes()
    except OSError as e:
        raise UserError(f"The contest manifest {path} cannot be read: {e.strerror}.") from e
    return parse_contest_manifest(text, file=str(path), platform=platform)


async def apply_manifest(manifest: ContestManifest, *, url: str, token: str) -> str:
    """Bring registry and hub after the manifest; one line on what that was."""
    async with ContestsClient(url, token) as client:
        plan = await apply(client, manifest)
    title, teams = manifest.contest.title, len(manifest.teams)
    changed = sum(change.group in manifest.teams for change in plan.changes)
    done = f"{changed} of {teams} teams made or changed" if changed else f"{teams} teams, no change"
    return f"Contest {title}: {done}"
