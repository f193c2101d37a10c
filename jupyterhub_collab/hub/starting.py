"""One start of a server, from the ready namespace to a pod that serves: volume, pod, Secret, wait.

Every step can be repeated after a lost answer and finds its own work again: the pod bears the id of
this start. What a step leaves behind when the hub dies is either owned by the pod or found by the
state that was written before.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

from jupyterhub.utils import maybe_future

from .. import constants, names
from ..errors import CollabError, KubeError, NotOursError
from ..identity.server_credential import ServerClaims
from ..kube.errors import (
    ConflictError,
    NotFoundError,
    PermanentKubeError,
    is_policy_refusal,
)
from ..kube.kinds import EVENT, PERSISTENT_VOLUME_CLAIM, POD
from ..models import Gate
from ..policy.pod import PodRules, ServerIdentity, enforce_pod
from ..policy.quota import parse_exceeded
from .audit.origin import current_origin
from .audit.servers import allow_start, tell_started
from .cluster import ClusterLink, Leaving, create, retry
from .endings import is_hopeless, is_stuck, to_last_words, to_stuck
from .progress import ProgressLog
from .readiness import is_ours
from .reflector import PodView
from .refusals import ADMIN, SpawnRefusedError
from .server_objects import is_personal_claim_of, make_personal_claim, make_server_secret

if TYPE_CHECKING:
    from .spawner import TeamSpawner

_RETRY_S: Final = 30.0  # a request that fails for the moment is repeated for so long
_FREED_S: Final = 10.0  # a pod that went so short ago may still count against the quota
_FREE_WAIT_S: Final = 3.0  # how long its share is waited for


class ServerStart:
    """Starts one server. Used once."""

    def __init__(
        self, spawner: TeamSpawner, link: ClusterLink, rules: PodRules, progress: ProgressLog
    ) -> None:
        self._spawner = spawner
        self._link = link
        self._rules = rules
        self._progress = progress
        self._may_exist = False  # the pod was asked for, and the answer was not a plain no
        server_id = secrets.token_hex(16)
        origin = current_origin()
        platform, spec = rules.platform, rules.spec
        credential = spawner.issuer.mint(
            ServerClaims(
                hub_id=platform.hub_id,
                username=spawner.user.name,
                server_name=spawner.name,
                team=spec.team,
                contest=spec.contest,
                server_id=server_id,
                issued_at=datetime.now(timezone.utc),
            )
        )
        self._secret_values = {
            constants.SECRET_KEY_API_TOKEN: spawner.api_token,
            constants.SECRET_KEY_CREDENTIAL: credential,
        }
        pod_name = names.server_pod(spawner.user.name, spawner.name)
        self._server = ServerIdentity(
            username=spawner.user.name,
            server_name=spawner.name,
            server_id=server_id,
            pod_name=pod_name,
            namespace=names.namespace_of(spec.team, prefix=platform.namespace_prefix),
            # Of this start alone: the one before may take a moment to be collected.
            secret_name=f"{pod_name}-{server_id[:8]}",
            secret_env={
                "JUPYTERHUB_API_TOKEN": constants.SECRET_KEY_API_TOKEN,
                "JPY_API_TOKEN": constants.SECRET_KEY_API_TOKEN,
                constants.ENV_CREDENTIAL: constants.SECRET_KEY_CREDENTIAL,
            },
            secret_values=frozenset(self._secret_values.values()),
            correlation=origin.correlation if origin is not None else "",
        )

    @property
    def server_id(self) -> str:
        """Of this one start."""
        return self._server.server_id

    async def run(self) -> str:
        """URL of the server, once it serves."""
        spawner, server = self._spawner, self._server
        await allow_start(spawner, self._rules, server.server_id)  # before anything is made
        await self._ensure_personal_volume()
        manifest = await self._make_manifest()
        # Written before the pod exists: a hub that dies now finds it by namespace, name and id.
        spawner.server_id, spawner.pod_uid = server.server_id, ""
        spawner.gate = self._rules.spec.gate.value
        spawner.remember()
        self._progress.say("Your server is being made.", percent=40)
        try:
            pod = await self._create_pod(manifest)
        except CollabError:
            if not self._may_exist:
                spawner.server_id = ""  # nothing has to go, and nothing is looked for
            raise
        spawner.pod_uid = pod["metadata"]["uid"]
        self._link.pods.note(pod)
        unfollow = self._link.events.follow(spawner.pod_uid, self._progress.tell)
        try:
            await self._create_secret(spawner.pod_uid)
            spawner.remember()
            if spawner.after_pod_created_hook:
                await maybe_future(spawner.after_pod_created_hook(spawner, pod))
            view = await self._wait_serving()
        finally:
            unfollow()
        self._progress.say("Your server runs; JupyterLab is loading.", percent=95)
        spawner.is_up = True
        tell_started(spawner, self._rules, view)
        return spawner.url_of(view)

    # -- personal volume ----------------------------------------------------------------------

    async def _ensure_personal_volume(self) -> None:
        """Make the member's volume in this team unless it is there; never touch a foreign one."""
        server, client = self._server, self._link.client
        wanted = make_personal_claim(
            server, self._rules, access_modes=self._spawner.storage_access_modes
        )
        name = wanted["metadata"]["name"]

        async def attempt() -> dict[str, Any]:
            # First a look: quota admission refuses a create even of what is there already.
            try:
                return await client.get(PERSISTENT_VOLUME_CLAIM, name, server.namespace)
            except NotFoundError:
                if self._rules.spec.gate is Gate.FROZEN:
                    raise SpawnRefusedError(
                        f"Team {self._rules.spec.team} is frozen, and you have no files in it yet.",
                        reason="frozen",
                    ) from None
            self._progress.say("A volume for your own files is being made.", percent=30)
            made = await create(client, wanted)
            # None: another server of this member was faster.
            return made or await client.get(PERSISTENT_VOLUME_CLAIM, name, server.namespace)

        claim = await retry(attempt, for_s=_RETRY_S, log_name=f"volume {name}")
        if not is_personal_claim_of(claim, server, self._rules):
            raise NotOursError(
                f"Under the name of your personal volume, {name}, there is a volume of somebody"
                " else. It is left alone."
            )
        if claim["metadata"].get("deletionTimestamp"):
            raise NotOursError("Your personal volume is being deleted.")

    # -- pod ----------------------------------------------------------------------------------

    async def _make_manifest(self) -> dict[str, Any]:
        spawner = self._spawner
        pod = await spawner.get_pod_manifest()
        if spawner.modify_pod_hook:
            pod = await maybe_future(spawner.modify_pod_hook(spawner, pod))
        plain = spawner.api.api_client.sanitize_for_serialization(pod)
        manifest = enforce_pod(plain, self._server, self._rules)
        return {**manifest, "apiVersion": "v1", "kind": "Pod"}

    async def _create_pod(self, manifest: dict[str, Any]) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        free_until = loop.time() + _FREE_WAIT_S

        async def attempt() -> dict[str, Any] | None:
            before, self._may_exist = self._may_exist, True
            try:
                made = await create(self._link.client, manifest)
            except (PermanentKubeError, ConflictError):
                self._may_exist = before
                raise
            if made is None:
                self._may_exist = before
            return made

        while True:
            try:
                made = await retry(attempt, for_s=_RETRY_S, log_name=f"pod {self._server.pod_name}")
                found = made or await self._find_pod()
                if found is not None:
                    return found
            except PermanentKubeError as error:
                # An API server may know a namespace's new lines a moment after another does.
                may_pass = is_policy_refusal(error) or self._may_free_soon(error)
                if loop.time() > free_until or not may_pass:
                    raise
                await asyncio.sleep(0.2)

    async def _find_pod(self) -> dict[str, Any] | None:
        """The pod that stands under our name: ours (an answer was lost), or an earlier one to go.

        None: it is gone, create again.
        """
        server, client = self._server, self._link.client
        try:
            pod = await retry(
                lambda: client.get(POD, server.pod_name, server.namespace), for_s=_RETRY_S
            )
        except NotFoundError:
            return None
        meta = pod["metadata"]
        annotations = meta.get("annotations") or {}
        if annotations.get(constants.ANNOTATION_SERVER_ID) == server.server_id:
            return pod
        owner = (
            annotations.get(constants.ANNOTATION_USERNAME),
            annotations.get(constants.ANNOTATION_SERVERNAME, ""),
        )
        ours = is_ours(meta.get("labels") or {}, self._rules.spec.team, self._rules.platform)
        if not ours or owner != (server.username, server.server_name):
            raise NotOursError(
                f"Under the name of your server's pod, {server.pod_name}, there is a pod of"
                " somebody else. It is left alone."
            )
        self._progress.say("An earlier server of yours is still being stopped.", percent=35)
        self._link.pods.note(pod)
        # Others may wait for the same task: the end of this start must not end it.
        leaving = Leaving(server.namespace, server.pod_name, "", meta["uid"])
        await asyncio.shield(self._link.see_off(leaving))
        return None

    def _may_free_soon(self, error: KubeError) -> bool:
        """Whether a quota refuses because of a pod that has just gone, or is going."""
        if error.status != 403 or not parse_exceeded(error.message):
            return False
        pods, namespace = self._link.pods, self._server.namespace
        going = any(view.is_terminating or view.is_dead for view in pods.in_namespace(namespace))
        return going or pods.seconds_since_one_went(namespace) < _FREED_S

    async def _create_secret(self, pod_uid: str) -> None:
        manifest = make_server_secret(
            self._server, self._rules, pod_uid=pod_uid, values=self._secret_values
        )

        # The name is this start's alone: if there is one already, an answer was lost.
        await retry(
            lambda: create(self._link.client, manifest),
            for_s=_RETRY_S,
            log_name=f"secret {self._server.secret_name}",
        )

    # -- wait ---------------------------------------------------------------------------------

    async def _wait_serving(self) -> PodView:
        """The pod, once it serves. The caller's time limit ends it."""
        server, uid = self._server, self._spawner.pod_uid
        stuck_s = self._spawner.stuck_timeout
        loop = asyncio.get_running_loop()
        stuck_since: float | None = None
        last: PodView | None = None
        while True:
            try:
                view = await self._link.pods.wait_for(
                    server.namespace,
                    server.pod_name,
                    lambda v, last=last: v != last,  # type: ignore[misc]
                    timeout_s=stuck_s,
                )
            except TimeoutError:
                view = last
            last = view
            if view is None or view.uid != uid:
                raise SpawnRefusedError(
                    "Your server was removed while it started. Start it again.", reason="removed"
                )
            if view.is_serving:
                return view
            if view.is_dead:
                raise SpawnRefusedError(to_last_words(view), reason="exited", status_code=502)
            is_unplaced = view.phase == "Pending" and not view.waiting
            if not is_stuck(view) and not is_unplaced:
                stuck_since = None
                continue
            stuck_since = loop.time() if stuck_since is None else stuck_since
            is_late = loop.time() - stuck_since >= stuck_s
            if is_hopeless(view) or (is_late and not is_unplaced):
                raise SpawnRefusedError(self._stuck(view), reason="stuck", status_code=502)
            trouble = await self._volume_trouble() if is_late else ""
            if trouble:
                raise SpawnRefusedError(trouble, reason="volume", status_code=502)

    def _stuck(self, view: PodView) -> str:
        image_id = self._rules.choice.image_id
        reference = self._rules.spec.images[image_id].reference
        return to_stuck(view, image_id=image_id, reference=reference)

    async def _volume_trouble(self) -> str:
        """Why a volume of this server cannot be made; empty while the cluster does not say so."""
        spec, client, namespace = self._rules.spec, self._link.client, self._server.namespace
        volumes = {
            names.personal_claim(self._server.username): "Your personal volume",
            constants.TEAM_CLAIM_NAME: f"The volume of team {spec.team}",
        } | {names.dataset_claim(d): f"The data set {d}" for d in spec.datasets}
        for name, title in volumes.items():
            with contextlib.suppress(KubeError):  # asked again at the next look
                claim = await client.get(PERSISTENT_VOLUME_CLAIM, name, namespace)
                if (claim.get("status") or {}).get("phase") != "Pending":
                    continue
                about = f"involvedObject.uid={claim['metadata']['uid']}"
                page = await client.list_page(
                    EVENT, namespace=namespace, field_selector=about, page_size=50
                )
                said = [e.get("message", "") for e in page.items if e.get("type") == "Warning"]
                if said:
                    reason = said[-1].rstrip(".")
                    return f"{title} cannot be made: {reason}. {ADMIN}"
        return ""
