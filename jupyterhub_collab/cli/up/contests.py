"""Applies the run's contest manifests, as `jupyterhub-collab apply` does."""

from __future__ import annotations

from pathlib import Path

from ...errors import UserError
from ...hubapi.client import HubClient
from ...managers.contest import ContestManager, TeamRegistry
from ...models import ContestManifest, Platform
from ...policy.contest_manifest import parse_contest_manifest


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


async def apply_manifest(manifest: ContestManifest, *, api_url: str, token: str) -> str:
    """Make the hub's groups as the manifest says; one line on what that was."""
    async with HubClient(api_url, token) as hub:
        plan = await ContestManager(TeamRegistry(hub)).apply(manifest)
    title, teams = manifest.contest.title, len(manifest.teams)
    changed = sum(change.group in manifest.teams for change in plan.changes)
    done = f"{changed} of {teams} teams made or changed" if changed else f"{teams} teams, no change"
    return f"Contest {title}: {done}"
