"""Who may ask the hub about a server credential: introspection, and the public key.

``POST /hub/api/collab/introspect`` (RFC 7662) answers ``active: true`` only while the very server
that the credential was minted for runs, and its user is still in the team. ``GET
/hub/api/collab/jwks`` is open to all: it holds a public key.
"""

from __future__ import annotations

import json
from typing import Any

from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.handlers import BaseHandler
from tornado import web

from ..identity.server_credential import CredentialError, ServerClaims
from . import INTROSPECT_SCOPE
from .notices import HANDLERS as NOTICE_HANDLERS
from .recovery import AdoptHandler, StraysHandler
from .settings import settings_of
from .spawner import TeamSpawner
from .standing import HANDLERS as STANDING_HANDLERS
from .team_page import HANDLERS as TEAM_PAGE_HANDLERS
from .team_servers import HANDLERS as TEAM_SERVERS_HANDLERS
from .teams import closed_because, is_member
from .token_body import read_token


class JwksHandler(APIHandler):  # type: ignore[misc]
    """The key with which credentials are signed."""

    async def get(self) -> None:
        """A JSON Web Key Set."""
        issuer = settings_of(self.settings["config"]).issuer
        self.set_header("Cache-Control", "max-age=300")
        self.finish(json.dumps(issuer.to_jwks()))


class IntrospectHandler(APIHandler):  # type: ignore[misc]
    """Says whether a credential is good, and for what."""

    async def post(self) -> None:
        """Body as RFC 7662 has it: a form with ``token``. JSON is taken too."""
        if INTROSPECT_SCOPE not in self.expanded_scopes or self.get_token() is None:
            raise web.HTTPError(403, f"This needs a token with the scope {INTROSPECT_SCOPE}.")
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(self._introspect(read_token(self, what="the credential"))))

    def _introspect(self, token: str) -> dict[str, Any]:
        settings = settings_of(self.settings["config"])
        try:
            claims = settings.issuer.verify(token, hub_id=settings.platform.hub_id)
        except CredentialError:
            return {"active": False}  # RFC 7662: no reason is given
        spawner = self._running(claims)
        if spawner is None:
            return {"active": False}
        return {
            "active": True,
            "iss": claims.hub_id,
            "sub": claims.username,
            "username": claims.username,
            "server": claims.server_name,
            "team": claims.team,
            "contest": claims.contest,
            "jti": claims.server_id,
            "iat": int(claims.issued_at.timestamp()),
            "namespace": spawner.namespace,
            "pod": spawner.pod_name,
        }

    def _running(self, claims: ServerClaims) -> TeamSpawner | None:
        """The spawner of the server that the credential is for, if that is what runs."""
        user = self.find_user(claims.username)
        if user is None or claims.server_name not in user.spawners:
            return None
        spawner = user.spawners[claims.server_name]
        if not isinstance(spawner, TeamSpawner) or not spawner.is_server(claims):
            return None
        if not is_member(user, claims.team):
            return None
        is_closed = closed_because(self.authenticator, user, claims.team)
        return None if is_closed else spawner


HANDLERS: list[tuple[str, type[BaseHandler]]] = [
    (r"/api/collab/introspect", IntrospectHandler),
    (r"/api/collab/jwks", JwksHandler),
    (r"/api/collab/strays", StraysHandler),
    (r"/api/collab/adopt", AdoptHandler),
    *STANDING_HANDLERS,
    *NOTICE_HANDLERS,
    *TEAM_PAGE_HANDLERS,
    *TEAM_SERVERS_HANDLERS,
]
