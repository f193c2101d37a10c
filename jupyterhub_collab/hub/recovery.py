"""Gives running servers back to their members after the hub's database was lost.

``GET /hub/api/collab/strays`` lists them, ``POST /hub/api/collab/adopt`` takes one over. All that
is believed is what the cluster says of the pod and what the hub's groups say of its user; only the
API token that the server holds comes from the caller, for the hub may not read Secrets
(`jupyterhub-collab recover` reads them as an administrator). Rows are made by JupyterHub's own way
of starting a server, with a start that only takes over.

It must never end a pod: whatever could fail is asked before the pod becomes the spawner's.
"""

from __future__ import annotations

import json
from typing import Any, Final

from jupyterhub import orm
from jupyterhub.apihandlers.base import APIHandler
from tornado import web
from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from .. import constants, names
from ..errors import CollabError
from ..kube.kinds import POD
from ..models import Gate
from ..timeouts import timeout
from .cluster import ClusterLink, open_link
from .database import refused_without_database
from .reflector import PodView
from .settings import settings_of
from .spawner import Adoption, TeamSpawner
from .strays import find_strays, read_states, sweep
from .teams import is_member

#: Whoever has these could do as much to users' servers and tokens anyhow.
SCOPES: Final = ("admin:servers", "admin:users", "tokens")
_SYNC_S: Final = 30.0
_ANSWER_S: Final = 10.0


class RecoveryHandler(APIHandler):  # type: ignore[misc]
    """What both share: who may ask, and the cluster."""

    async def open(self) -> ClusterLink:
        """The hub's link, with all pods known."""
        if self.get_token() is None or not set(SCOPES) <= set(self.expanded_scopes):
            raise web.HTTPError(403, f"This needs a token with the scopes {', '.join(SCOPES)}.")
        self.platform = settings_of(self.settings["config"]).platform
        try:
            link = await open_link(hub_id=self.platform.hub_id)
        except CollabError as e:
            raise web.HTTPError(503, str(e)) from e
        sweep(link, self.db, prefix=self.platform.namespace_prefix)
        if not await link.wait_synced(timeout_s=_SYNC_S):
            raise web.HTTPError(503, "The cluster does not answer at the moment. Try again.")
        return link


class StraysHandler(RecoveryHandler):
    """Pods that no server in the database belongs to."""

    async def get(self) -> None:
        """A list."""
        with refused_without_database(self.db):
            link = await self.open()
            states = read_states(self.db)
        found = find_strays(link.pods, states, prefix=self.platform.namespace_prefix)
        self.finish(json.dumps({"strays": [stray.to_wire() for stray in found]}))


class AdoptHandler(RecoveryHandler):
    """Takes one over."""

    async def post(self) -> None:
        """Body: namespace, pod, uid, api_token. 201, or a refusal in words."""
        with refused_without_database(self.db):
            await self._adopt()

    async def _adopt(self) -> None:
        link = await self.open()
        body = self.get_json_body()
        body = body if isinstance(body, dict) else {}
        fields = [body.get(k) for k in ("namespace", "pod", "uid", "api_token")]
        texts = [field for field in fields if isinstance(field, str) and field]
        if len(texts) < len(fields):
            raise web.HTTPError(400, "Send namespace, pod, uid and api_token, each as text.")
        namespace, pod, uid, token = texts
        view = link.pods.get(namespace, pod)
        if view is None or view.uid != uid:
            raise web.HTTPError(404, "There is no such pod of this hub.")
        adoption = await self._check(link, view, token)
        user = self.find_user(view.username)
        spawner = user.get_or_create_spawner(view.server_name, None, replace_failed=True)
        if not isinstance(spawner, TeamSpawner) or spawner.active or spawner.pending:
            raise web.HTTPError(409, "A server of that name runs or starts; stop it first.")
        spawner.adoption = adoption
        try:
            await self.spawn_single_user(user, view.server_name, options={"team": adoption.team})
            if spawner._spawn_future is not None:  # JupyterHub waits for a start only for a while
                await spawner._spawn_future
        finally:
            spawner.adoption = None
        if spawner.server_id != view.server_id:
            raise web.HTTPError(500, "It was not taken over; the hub's log says why.")
        self.log.info("%s was taken over by this hub", spawner._log_name)
        self.set_status(201)
        self.finish(json.dumps({"url": spawner.server.base_url}))

    async def _check(self, link: ClusterLink, view: PodView, token: str) -> Adoption:
        """All that could fail. Raises HTTPError."""
        team = names.team_of_namespace(view.namespace, prefix=self.platform.namespace_prefix)
        user = self.find_user(view.username)
        if team is None or user is None or not is_member(user, team):
            raise web.HTTPError(
                409,
                f"{view.username!r} is not a member of team {team or view.namespace!r} on this"
                " hub. Apply the contest's manifest first: memberships are not in the cluster.",
            )
        if not view.is_serving:
            raise web.HTTPError(409, "The pod does not serve at the moment. It is left alone.")
        known = orm.APIToken.find(self.db, token)
        if known is not None and known.user is not user.orm_user:
            raise web.HTTPError(409, "That token is somebody else's. The pod is left alone.")
        try:
            pod = await link.client.get(POD, view.name, view.namespace)
        except CollabError as e:
            raise web.HTTPError(503, str(e)) from e
        labels = pod["metadata"].get("labels") or {}
        adoption = Adoption(
            view=view,
            api_token=token,
            team=team,
            contest=labels.get(constants.LABEL_CONTEST, ""),
            gate=_gate_of(pod).value,
        )
        await self._check_answers(adoption, pod)
        return adoption

    async def _check_answers(self, adoption: Adoption, pod: dict[str, Any]) -> None:
        """JupyterHub would stop a server that does not answer, or that the proxy does not take."""
        prefix = next(
            (
                entry.get("value", "")
                for container in pod["spec"]["containers"]
                for entry in container.get("env") or []
                if entry.get("name") == "JUPYTERHUB_SERVICE_PREFIX"
            ),
            "",
        )
        ip, port = adoption.view.ip, self.platform.server_port
        url = f"http://{f'[{ip}]' if ':' in ip else ip}:{port}{prefix}api"
        request = HTTPRequest(url, request_timeout=_ANSWER_S, follow_redirects=False)
        try:
            response = await AsyncHTTPClient().fetch(request, raise_error=False)
        except (OSError, ValueError) as e:
            raise web.HTTPError(409, f"The server does not answer ({e}). It is left alone.") from e
        if response.code >= 500:  # 599: tornado's word for no answer
            raise web.HTTPError(409, "The server does not answer. It is left alone.")
        try:
            async with timeout(_ANSWER_S):
                await self.proxy.get_all_routes()
        except Exception as e:  # whatever a proxy class raises
            raise web.HTTPError(503, f"The proxy does not answer ({type(e).__name__}).") from e


def _gate_of(pod: dict[str, Any]) -> Gate:
    """Frozen, if the pod can write to no volume that lasts."""
    claims = [
        volume["persistentVolumeClaim"]
        for volume in pod["spec"].get("volumes") or []
        if "persistentVolumeClaim" in volume
    ]
    is_frozen = bool(claims) and all(claim.get("readOnly") for claim in claims)
    return Gate.FROZEN if is_frozen else Gate.OPEN
