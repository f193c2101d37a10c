"""Who is which hub user, for admins: ``/hub/api/collab/identities``.

Two accounts are one person here because an admin says so, and for no other reason: not because they
have one name, nor one mail address. ``POST`` links an identity to a hub user, ``GET`` lists a hub
user's, ``DELETE`` takes one away and ends what was had by it.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.scopes import needs_scope
from tornado import web

from ...models import Identity
from ...storage.database import DatabaseError
from ...storage.identities import KEY_MAX, NameTakenError

_AWAY = "The database does not answer. Try again in a minute."
log = logging.getLogger(__name__)


class IdentitiesHandler(APIHandler):  # type: ignore[misc]
    """Identities of hub users."""

    @needs_scope("admin:users")  # type: ignore[untyped-decorator]
    async def get(self) -> None:
        """Those of the hub user ``?name=``, with the addresses by which they were invited."""
        user = self._find(self.get_query_argument("name", None))
        manager = self.authenticator.admission.manager
        try:
            found = await manager.identities.identities_of(user.name)
            taken = [
                {"issuer": identity.issuer, "email": email}
                for identity in found
                for email in await manager.invitations.taken_by(identity)
            ]
        except DatabaseError as e:
            raise web.HTTPError(503, _AWAY) from e
        self._answer(user.name, found, invitations=taken)

    @needs_scope("admin:users")  # type: ignore[untyped-decorator]
    async def post(self) -> None:
        """Link. Body: ``{"name", "issuer", "subject"}``. 201, or 200 if it was so already."""
        body = self._body()
        user = self._find(body.get("name"))
        identity = self._identity_of(body)
        self._refuse_for_admins(user)
        if identity.issuer not in {source.issuer for source in self.authenticator.sources}:
            raise web.HTTPError(400, f"No source here is called {identity.issuer!r}.")
        identities = self.authenticator.admission.manager.identities
        try:
            known = await identities.name_of(identity)
            is_new = known is None
            if is_new and not await identities.link(identity, user.name):
                # Nobody has come under this name yet, or somebody linked it at this moment.
                known = await identities.bind(identity, user.name)
        except NameTakenError as e:
            raise web.HTTPError(409, "The hub user was changed at this moment. Try again.") from e
        except DatabaseError as e:
            raise web.HTTPError(503, _AWAY) from e
        if known not in (None, user.name):
            raise web.HTTPError(
                409, f"That identity is hub user {known}. Take it away there first."
            )
        log.info("%s is hub user %s now, by word of %s", identity, user.name, self._who())
        self.set_status(201 if is_new else 200)
        self._answer(user.name, await identities.identities_of(user.name))

    @needs_scope("admin:users")  # type: ignore[untyped-decorator]
    async def delete(self) -> None:
        """Take away. Body: ``{"issuer": ..., "subject": ...}``. 204; 404 if it is nobody here."""
        identity = self._identity_of(self._body())
        admission = self.authenticator.admission
        try:
            name = await admission.manager.identities.name_of(identity)
            if name is None:
                raise web.HTTPError(404, "That identity is nobody here.")
            user = self.find_user(name)
            if user is not None:
                self._refuse_for_admins(user)
            await admission.manager.identities.unlink(identity)
            membership = await admission.memberships.read(name)
            if membership is not None and membership.identity == identity:
                await admission.drop(membership, because=f"{identity} was taken away")
        except DatabaseError as e:
            raise web.HTTPError(503, _AWAY) from e
        log.info("%s is no longer hub user %s, by word of %s", identity, name, self._who())
        self.set_status(204)
        self.finish()

    def _answer(self, name: str, found: tuple[Identity, ...], **more: list[Any]) -> None:
        listed = [{"issuer": i.issuer, "subject": i.subject} for i in found]
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps({"name": name, "identities": listed, **more}))

    def _body(self) -> dict[str, Any]:
        body = self.get_json_body()
        if not isinstance(body, dict):
            raise web.HTTPError(400, "Send a JSON object.")
        return body

    def _identity_of(self, body: dict[str, Any]) -> Identity:
        issuer, subject = body.get("issuer"), body.get("subject")
        for text in (issuer, subject):
            if not isinstance(text, str) or not 0 < len(text) <= KEY_MAX or not text.isprintable():
                raise web.HTTPError(400, "Send issuer and subject, both texts.")
        return Identity(str(issuer), str(subject))

    def _find(self, name: object) -> Any:
        user = self.find_user(name) if isinstance(name, str) and name else None
        if user is None:
            raise web.HTTPError(404, "There is no hub user of that name.")
        return user

    def _refuse_for_admins(self, user: Any) -> None:
        """As JupyterHub: who may change users may not become an admin by it."""
        if user.admin and not self.current_user.admin:
            raise web.HTTPError(403, "Only admins can change who an admin is.")

    def _who(self) -> str:
        return f"{self.current_user.kind} {self.current_user.name}"


HANDLERS: list[tuple[str, type]] = [(r"/api/collab/identities", IdentitiesHandler)]
