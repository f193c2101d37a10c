"""A source that is a file: for tests of what all sources share, with faults made to order.

The file: ``{"people": {"ada": {"subject": "1", "password": "pw", "groups": [...]}}}``; and
``"down": true`` while it shall not answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tornado import web
from traitlets import Unicode

from jupyterhub_collab.errors import RetryableError
from jupyterhub_collab.hub.auth.source import Asked, Overview
from jupyterhub_collab.hub.auth.team_authenticator import TeamAuthenticator
from jupyterhub_collab.models import Facts, Identity
from jupyterhub_collab.storage.memberships import Membership


class PaperAuthenticator(TeamAuthenticator):
    """People of a file."""

    file = Unicode(config=True)
    paper_name = Unicode("paper", config=True)

    @property
    def issuer(self) -> str:
        return self.paper_name

    def read(self) -> dict[str, Any]:
        said = json.loads(Path(self.file).read_text())
        if said.get("down"):
            raise RetryableError("the paper is not here")
        return said["people"]

    def facts(self, username: str, said: dict[str, Any]) -> Facts:
        return Facts(
            identity=Identity(self.issuer, said["subject"]),
            username=username,
            at=datetime.now(timezone.utc),
            groups=tuple(said.get("groups", ())),
            claims=said.get("claims", {}),
            emails=tuple(said.get("emails", ())),
        )

    async def authenticate(self, handler: Any, data: dict[str, str]) -> dict[str, Any] | None:
        try:
            person = self.read().get(data["username"])
        except RetryableError as e:
            raise web.HTTPError(503, "The directory does not answer.") from e
        if person is None or person["password"] != data["password"]:
            return None
        return await self.admit(self.facts(data["username"], person))

    async def ask(self, user: Any, membership: Membership) -> Asked:
        for username, said in self.read().items():
            if said["subject"] == membership.identity.subject:
                return Asked(self.facts(username, said))
        return Asked(None)

    async def look_over(self, memberships: Sequence[Membership]) -> Overview:
        people = {said["subject"]: said for said in self.read().values()}
        same = {
            m.name
            for m in memberships
            if set(m.groups) <= set(people.get(m.identity.subject, {}).get("groups", ()))
            and m.identity.subject in people
        }
        return Overview(frozenset(same), frozenset(m.name for m in memberships) - same)

    async def leave(self, user: Any, handler: Any) -> str | None:
        return "https://sso.genoa.example.org/bye" if self.paper_name == "genoa" else None
