"""Contests over HTTP: what there is, manifests, ranking, who accepted the agreement."""

from __future__ import annotations

from typing import Any, Final

from tornado.web import HTTPError

from ...errors import Problem, SpecError
from ...managers.team_assembly import agreement_of
from ...models import ContestManifest
from ...policy import contest_difference
from ...policy.contest_access import Right, may, roles_of
from ...policy.contest_actions import possible_actions
from ...policy.contest_manifest import check_contest_manifest
from ...policy.problems import to_field
from .bodies import MANIFEST_BYTES_MAX, bad_field
from .handlers import Handler, Route
from .requests import AgreementBody, RankingBody, RebuildBody
from .wire import contest_summary, registration

PLATFORM: Final = "platform"  # where in `Work.more` the platform's settings are, if they are known
_MANIFEST_S: Final = 300.0  # 16 MiB over a slow line


class ContestsHandler(Handler):
    """All contests that whoever asks may see."""

    async def get(self) -> None:
        found = [c for c in await self.work.store.contests() if self.may(Right.SEE_CONTEST, c)]
        self.send(
            {
                "contests": [contest_summary(contest) for contest in found],
                "problems": [
                    {"contest": one.id, "message": one.why}
                    for one in await self.work.store.unreadable_contests()
                    if may(self.asker, Right.HOST, contest=one.id)
                ],
            }
        )


class ContestHandler(Handler):
    """One contest, and what whoever asks is and may in it."""

    async def get(self, contest: str) -> None:
        found = await self.require(Right.SEE_CONTEST, contest)
        asker = self.asker
        answer = {
            **contest_summary(found),
            "registration": registration(found),
            "me": {
                "name": asker.name,
                "roles": sorted(role.name.lower() for role in roles_of(asker, contest=found.id)),
                "rights": sorted(r.name.lower() for r in Right if self.may(r, found)),
                "teams": sorted(t for t, c in asker.teams.items() if c == found.id),
                "leads": sorted(t for t in asker.leads if asker.teams.get(t) == found.id),
            },
        }
        if self.may(Right.SEE_TEAMS, found):
            answer["ranking"] = list(found.ranking)
            counts = await self.work.store.count_teams(found.id)
            answer["teams"] = {state.value: n for state, n in sorted(counts.items())}
        if self.may(Right.HOST, found):
            courses = await self.work.store.courses(found.id, teams=("",))
            answer["manifest"] = found.manifest.to_wire()
            answer["possible"] = [action.value for action in possible_actions(found, courses)]
            answer["problems"] = [
                {"team": one.id or None, "message": one.why}
                for one in await self.work.store.unreadable_teams(found.id)
            ]
            answer["projected"] = found.generation == found.projected
        self.send(answer)


class _ManifestHandler(Handler):
    """Base: who may, and reading it."""

    async def prepare(self) -> None:
        await super().prepare()
        if not self._finished:
            self._require_host(self.path_args[0])
            self.take_up_to(MANIFEST_BYTES_MAX, within_s=_MANIFEST_S)

    def _require_host(self, contest: str) -> None:
        """Raises HTTPError 403. Who may make a contest of this id is who may change it: whether
        there is one makes no difference, and nobody learns it."""
        self.require_on_hub(Right.CREATE, contest)

    def read_manifest(self, contest: str) -> ContestManifest:
        """The manifest that was sent for this contest. Raises HTTPError, BadRequestError."""
        manifest = self.read_body(ContestManifest, bytes_max=MANIFEST_BYTES_MAX)
        if manifest.contest.id != contest:
            raise bad_field("contest.id", repr(manifest.contest.id), f"{contest!r}, as the address")
        problems = check_contest_manifest(manifest, self.work.more.get(PLATFORM))
        if problems:
            raise SpecError([Problem(to_field(p.path), p.found, p.expected) for p in problems])
        return manifest


class ManifestPlanHandler(_ManifestHandler):
    """What a manifest would change."""

    async def post(self, contest: str) -> None:
        plan = await self.work.registry.plan_manifest(self.read_manifest(contest))
        self.send(contest_difference.to_wire(plan.difference))


class ManifestHandler(_ManifestHandler):
    """Have a contest be as its manifest says."""

    async def put(self, contest: str) -> None:
        manifest = self.read_manifest(contest)
        plan = await self.work.registry.put_manifest(manifest, by=self.asker.name)
        self.set_header("Location", f"{self.work.prefix}api/contests/{contest}/progress")
        self.send(contest_difference.to_wire(plan.difference), 202)


class RankingHandler(Handler):
    """What the judges say."""

    async def put(self, contest: str) -> None:
        found = await self.require(Right.RANK, contest)
        body = self.read_body(RankingBody)
        await self.work.registry.rank(found, body.ranking, by=self.asker.name)
        self.send({"ranking": list(body.ranking)})


class AgreementHandler(Handler):
    """Accepting the rules and the terms of data use."""

    async def get(self, contest: str) -> None:
        found = await self.require(Right.ENTER, contest)
        agreement = agreement_of(found)
        if agreement is None:
            raise HTTPError(404, "This contest has no agreement.")
        answer: dict[str, Any] = {"version": agreement.version, "text": agreement.text}
        if self.asker.is_person:
            accepted = await self.work.store.acceptances(found.id, agreement.version)
            at = self.accepted_at(accepted, self.own_entries(contest=found.id))
            answer["acceptedAt"] = None if at is None else at.isoformat()
        self.send(answer)

    async def post(self, contest: str) -> None:
        found = await self.require(Right.ENTER, contest)
        body = self.read_body(AgreementBody)
        own = self.own_entries(contest=found.id) if self.asker.is_person else ()
        is_self = body.entry is None or body.entry in own
        entries = own if own and is_self else (self.entry_or_self(body.entry),)
        for entry in entries:
            await self.work.assembly.agree(found, body.version, entry, by=self.asker.name)
        self.send({"version": body.version, "accepted": True})


class CertificateHandler(Handler):
    """The signed certificate of a contest's end."""

    async def get(self, contest: str) -> None:
        found = await self.require(Right.SEE_TEAMS, contest)
        text = await self.work.store.certificate(found.id)
        if text is None:
            raise HTTPError(
                404, f"There is no certificate yet: the contest is {found.state.value}."
            )
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(text)


class RebuildHandler(Handler):
    """Bring the hub's groups after the registry anew."""

    async def post(self) -> None:
        self.require_on_hub(Right.REBUILD)
        body = self.read_body(RebuildBody)
        if body.contest is not None:
            await self.require(Right.REBUILD, body.contest)
        await self.work.registry.rebuild(body.contest, by=self.asker.name)
        self.send({"contest": body.contest}, 202)


ROUTES: Final[list[Route]] = [
    ("api/contests", ContestsHandler),
    ("api/contests/([^/]+)", ContestHandler),
    ("api/contests/([^/]+)/plan", ManifestPlanHandler),
    ("api/contests/([^/]+)/manifest", ManifestHandler),
    ("api/contests/([^/]+)/ranking", RankingHandler),
    ("api/contests/([^/]+)/agreement", AgreementHandler),
    ("api/contests/([^/]+)/certificate", CertificateHandler),
    ("api/rebuild", RebuildHandler),
]
