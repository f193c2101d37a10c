"""The contest's world with volumes in it, Jobs that copy them, and a place for the copies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jupyterhub_collab.managers.contest_archives import SAVE, ContestArchives
from jupyterhub_collab.managers.contest_ending import Ending
from jupyterhub_collab.managers.contest_walk import HANDLERS
from jupyterhub_collab.managers.team_archives import AT_ONCE
from jupyterhub_collab.models.hub_user import HubUser
from jupyterhub_collab.policy.checkpoint import LogSigner
from jupyterhub_collab.singleuser.archive_packing import make_footer
from jupyterhub_collab.storage.archives import ArchiveFolder
from tests.managers.contest_world import World

SIGNER = LogSigner.generate("hub.test/contests")


class EndingWorld(World):
    """`World`, with the real last steps.

    Attributes
    ----------
    volumes
        What is in them, by team and claim; None: nobody ever used it.
    jobs
        State of each Job, by archive. One look makes a new one run, the next has it done.
    failing
        Archives whose Jobs fail, so often.
    jobs_max, jobs_seen
        How many Jobs run at once in all; the most that a team ever had, done ones included.
    leftovers
        What somebody left in the cluster by hand.
    """

    def __init__(self, folder: Path, *, has_place: bool = True, has_key: bool = True) -> None:
        super().__init__(folder)
        self.folder = folder
        self.volumes: dict[str, dict[str, bytes | None]] = {}
        self.jobs: dict[str, dict[str, str]] = {}
        self.failing: dict[str, int] = {}
        self.leftovers: list[dict[str, Any]] = []
        self.refused: str | None = None
        self.jobs_max, self.jobs_seen = 1000, 0
        self.place = ArchiveFolder(folder / "archives")
        self.archives = ContestArchives(
            self.place,
            self.store,
            self.recorder,
            key=b"k" * 32,
            prefix="/services/contests/",
            now=lambda: self.now,
        )
        self.ending = Ending(
            self.archives if has_place else None,
            SIGNER if has_key else None,
            read_checkpoint=self._checkpoint,
        )
        self.handlers = {**HANDLERS, **self.ending.handlers()}
        for name in ("read_archives", "start_archives", "find_leftovers"):
            setattr(self.provisioner, name, getattr(self, f"_{name}"))
        self.hub.list_users = self._list_users  # type: ignore[attr-defined]

    async def _checkpoint(self) -> str:
        return "the log's head\n"

    async def _list_users(self) -> dict[str, HubUser]:
        self.hub.at("before list_users")
        groups = {
            name: frozenset(g for g, group in self.hub.groups.items() if name in group.users)
            for name in self.hub.users
        }
        return {
            name: HubUser(name, is_admin, groups[name], has_servers=False)
            for name, is_admin in self.hub.users.items()
        }

    async def _read_archives(self, team: str) -> dict[str, Any] | None:
        self.provisioner.hub.at("before read_archives")
        if team not in self.provisioner.ready:
            return None
        volumes = [
            {
                "volume": claim,
                "kind": "team" if claim == "team" else "personal",
                "bytes": 1 << 30,
                "bound": content is not None,
            }
            for claim, content in sorted(self.volumes.get(team, {}).items())
        ]
        mine = [job for job in self.jobs.values() if job["archive"].startswith(f"{team}.")]
        return {
            "team": team,
            "namespace": f"team-{team}",
            "refused": self.refused,
            "volumes": volumes,
            "jobs": [dict(job) for job in mine],
        }

    async def _start_archives(
        self, team: str, entries: Iterable[Mapping[str, str]], *, ended: Iterable[str] = ()
    ) -> dict[str, Any] | None:
        self.provisioner.hub.at("before start_archives")
        is_full = False
        assert not self.hub.servers or team not in {s.team for s in self.hub.servers.values()}
        for archive in ended:
            assert self.jobs[archive]["state"] in ("done", "failed")
            noted = [row.key for row in await self.store.archives("sea", team=team)]
            is_kept = await self.archives.find(archive) is not None
            assert not is_kept or f"sea/{archive}.tar" in noted, "noted before its Job goes"
            del self.jobs[archive]
        for entry in entries:
            archive = entry["archive"]
            await self.archives.check(archive, entry["token"], SAVE)
            assert entry["path"] == f"/services/contests/api/archives/{archive}"
            job = self.jobs.setdefault(
                archive,
                {"work": SAVE, "archive": archive, "volume": entry["volume"], "state": "new"},
            )
            is_new = job["state"] == "new"
            open_jobs = [j for j in self.jobs.values() if j["state"] in ("waiting", "running")]
            of_team = [j for j in open_jobs if j["archive"].startswith(f"{team}.")]
            if is_new and (len(open_jobs) >= self.jobs_max or len(of_team) >= AT_ONCE):
                del self.jobs[archive]
                is_full = len(of_team) < AT_ONCE
                continue
            if job["state"] == "new":
                job["state"] = "waiting"
            elif job["state"] == "waiting":
                job["state"] = "running"
            elif job["state"] == "failed":
                job["state"] = "new"
            elif self.failing.get(archive, 0):
                self.failing[archive] -= 1
                job.update(state="failed", message="BackoffLimitExceeded: the disk is broken")
            elif await self.archives.find(archive) is None:
                await self._bring(archive, self.volumes[team][entry["volume"]] or b"")
                job["state"] = "done"
            secrets = [j for j in self.jobs.values() if j["archive"].startswith(f"{team}.")]
            self.jobs_seen = max(self.jobs_seen, len(secrets))
        self.provisioner.hub.at("after start_archives")
        return {**(await self._read_archives(team) or {}), "full": is_full}

    async def _bring(self, archive: str, data: bytes) -> None:
        incoming = await self.archives.begin(archive)
        try:
            sha256 = hashlib.sha256(data).hexdigest()
            await incoming.write(data)
            await incoming.write(make_footer(sha256, size=len(data), files=2, missed=1))
            await self.archives.keep(archive, incoming)
        finally:
            await incoming.close()

    async def _find_leftovers(self, contest: str, teams: Iterable[str]) -> dict[str, Any]:
        self.provisioner.hub.at("before find_leftovers")
        spaces = [
            {
                "kind": "Namespace",
                "namespace": None,
                "name": f"team-{team}",
                "team": team,
                "terminating": False,
                "why": "label",
            }
            for team in teams
            if team in self.provisioner.ready
        ]
        return {
            "contest": contest,
            "namespacePrefix": "team-",
            "at": self.now.isoformat(),
            "leftovers": [*spaces, *self.leftovers],
            "looked": ["Job", "Namespace"],
            "notLooked": {"Secret": "Nobody lists these."},
        }
