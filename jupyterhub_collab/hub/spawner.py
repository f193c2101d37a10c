"""TeamSpawner: a member's server as a pod in their team's namespace.

KubeSpawner gives the manifest and its many settings. Ours is what is around it: which team the
server is for (asked anew at each start, never taken from the last one), the wait until that team's
space is ready, the last word on the manifest, the tokens in a Secret, and a poll that does not take
silence for death. Of KubeSpawner's own start nothing is used: it adopts namespaces that exist, puts
tokens into the pod and counts a user's mistakes toward the hub's exit.

It must not: create or change namespaces, delete a volume, or start anything that the team's spec
does not allow.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

from jupyterhub.utils import maybe_future
from kubespawner import KubeSpawner
from traitlets import TraitError, default, validate

from .. import names
from ..errors import CollabError, PermanentError, SpecError, UserError
from ..identity.server_credential import ServerClaims
from ..models import Gate, TeamSpec
from ..policy.pod import PodRules
from ..policy.quota import RunningServer
from ..policy.spawning import (
    ServerChoice,
    choose_server,
    choose_team,
    server_limit_refusal,
    to_options,
)
from ..policy.start_turns import Turn
from .answering import ANSWER, distrust_answer, guard_first_answer
from .audit.origin import Origin, carry_on, continued, current_origin, kept_origin
from .audit.servers import stop_reason, tell_adopted, tell_not_started, tell_stopped
from .chooser import form_of, to_raw_options
from .cluster import LEAVINGS_KEY, ClusterLink, Leaving, leavings_in, open_link
from .database import unknown_without_database
from .endings import to_end, to_end_reason
from .progress import ProgressLog
from .readiness import NamespaceWaiter, ProvisionerLink
from .reflector import PodView
from .refusals import SpawnRefusedError, to_refusal
from .settings import TeamSettings
from .start_turns import end_turn, take_turn
from .starting import ServerStart
from .strays import sweep
from .team_servers import note
from .teams import closed_because, running_gate, team_spec, teams_of

_SYNC_S: Final = 30.0  # a start waits so long for the first list of pods
_POLL_SYNC_S: Final = 5.0  # a poll so long, when the hub has just started
_STOP_S: Final = 60.0  # a stop so long for the pod to go; it goes on in the background
_SEARCH_S: Final = 5.0  # and so long if it is not known whether there is a pod at all
_MARGIN_S: Final = 5.0  # our own end of a start comes before JupyterHub's


@dataclass(frozen=True)
class Adoption:
    """A server that runs, for a start that only takes it over. `hub.recovery` made sure of it."""

    view: PodView
    api_token: str
    team: str
    contest: str
    gate: str


class TeamSpawner(TeamSettings, KubeSpawner):  # type: ignore[misc]
    """Starts servers in the namespaces of teams."""

    # Of the server that runs or starts; empty otherwise. Kept in the state for poll and stop.
    team: str = ""
    contest: str = ""
    server_id: str = ""
    pod_uid: str = ""
    gate: str = ""  # as it was when the pod was made: frozen ones cannot write
    last_end: str = ""  # why the last server ended by itself; told on the spawn page
    adoption: Adoption | None = None  # what the next start takes over instead of making a server
    is_up: bool = False  # the server was told of as started, and its end was not told yet

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._leavings: list[Leaving] = []
        self._progress_log = ProgressLog()
        self._spec: TeamSpec | None = None
        self._choice: ServerChoice | None = None
        self._start_id = ""  # server id of the start under way
        self._asked: Origin | None = None  # who asked for it, and why
        self.turn: Turn | None = None  # its place, to be given back
        self._steps: asyncio.Future[str] | None = None
        self._forget_server()

    # -- settings -----------------------------------------------------------------------------

    @default("cmd")
    def _cmd_default(self) -> list[str]:
        return ["python3", "-m", "jupyterhub_collab.singleuser"]

    @default("options_form")
    def _options_form_default(self) -> Any:
        return form_of

    @default("options_from_form")
    def _options_from_form_default(self) -> Any:
        return self._read_form

    @default("start_timeout")
    def _start_timeout_default(self) -> int:
        return 300  # the first start on a machine fetches the image

    @default("http_timeout")
    def _http_timeout_default(self) -> int:
        return 60

    @default("hub_connect_url")
    def _hub_connect_url_default(self) -> str | None:
        hub = self.platform.hub_api
        return f"http://{hub.host}:{hub.port}"

    @default("port")
    def _port_default(self) -> int:
        return self.platform.server_port

    @validate("enable_user_namespaces", "services_enabled")
    def _refuse(self, proposal: Any) -> bool:
        if proposal["value"]:
            name = proposal["trait"].name
            raise TraitError(f"TeamSpawner has no {name}: namespaces are the provisioner's.")
        return False

    # -- what is asked for --------------------------------------------------------------------

    def _read_form(self, form: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return to_raw_options(form)
        except UserError as e:
            raise to_refusal(e) from e

    def options_from_query(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """User options of ``?opt-team=...``, as of the form."""
        return self._read_form(query)

    async def _run_apply_user_options(self, user_options: Any) -> None:
        # JupyterHub warns that nobody applies the options, where an administrator has no hook of
        # their own; load_user_options does.
        if self.apply_user_options:
            await super()._run_apply_user_options(user_options)

    async def load_user_options(self) -> None:
        """Decide team, image and profile, by what holds at this moment.

        Raises
        ------
        SpawnRefusedError
            An option that is not valid, not a member, the gate is closed, too many servers.
        """
        try:
            options = to_options(self.user_options)
            self.team = choose_team(options, teams_of(self.user))
            spec = self._open_spec()
            choice = choose_server(spec, options)
        except CollabError as e:
            # They are kept as the next start's default: nonsense must not come back.
            self.orm_spawner.user_options = {}
            team, self.team = self.team, ""
            raise to_refusal(e, team=team) from e
        too_many = server_limit_refusal(spec, self._others_in_team())
        if too_many is not None:
            self.team = ""
            raise SpawnRefusedError(too_many, reason="servers-per-member")
        self._take_spec(spec, choice)

    def _take_spec(self, spec: TeamSpec, choice: ServerChoice) -> None:
        """Set what KubeSpawner reads: for the environment, `JUPYTER_IMAGE` and `MEM_LIMIT`."""
        profile = spec.profiles[choice.profile_id]
        self._spec, self._choice, self.contest = spec, choice, spec.contest
        self.namespace = names.namespace_of(spec.team, prefix=self.platform.namespace_prefix)
        self.pod_name = names.server_pod(self.user.name, self.name)
        self.pvc_name = names.personal_claim(self.user.name)
        self.image = spec.images[choice.image_id].reference
        self.cpu_limit = self.cpu_guarantee = profile.cpu_millicores / 1000
        self.mem_limit = self.mem_guarantee = profile.memory_bytes

    def _read_spec(self) -> TeamSpec:
        """The spec as it is now: membership and settings may change while a start waits."""
        if self._choice is None:
            raise RuntimeError("no choice yet")
        try:
            spec = self._open_spec()
            options = {"image": self._choice.image_id, "profile": self._choice.profile_id}
            self._take_spec(spec, choose_server(spec, options))
        except CollabError as e:
            raise to_refusal(e, team=self.team) from e
        return spec

    def _open_spec(self) -> TeamSpec:
        """The team's spec, if the team is open to this user. Raises UserError and SpecError."""
        spec = team_spec(self.user, self.team)
        closed = closed_because(self.authenticator, self.user, self.team)
        if closed:
            raise UserError(f"{closed[:1].upper()}{closed[1:]}.")
        return spec

    def _others_in_team(self) -> list[str]:
        """Names of this user's other servers that run or start in the same team."""
        spawners = self.user.spawners.values()
        return [
            s.name
            for s in spawners
            if s is not self and s.active and getattr(s, "team", "") == self.team
        ]

    # -- start --------------------------------------------------------------------------------

    async def run_pre_spawn_hook(self) -> None:
        """An administrator's hook, then the wait for a place. JupyterHub's time limit comes after.

        Raises
        ------
        SpawnRefusedError
            Too many wait, or this start waited for too long.
        """
        await maybe_future(super().run_pre_spawn_hook())
        self._asked = kept_origin()  # the request may be answered before it is our turn
        if self.adoption is not None:
            return  # it runs already
        try:
            self.turn = await take_turn(self, lambda text: self._progress_log.say(text, percent=1))
        except BaseException:
            self._progress_log.close()
            raise

    async def _start(self) -> str:
        # JupyterHub answers the request that asks for a start before a slow one is over.
        with continued(self._asked):
            return await self._start_told()

    async def _start_told(self) -> str:
        note(self)
        if self.adoption is not None:
            return self._take_over(self.adoption)
        self._start_id = ""
        self._steps = asyncio.ensure_future(self._start_steps())
        try:
            done, _ = await asyncio.wait({self._steps}, timeout=self.start_timeout - _MARGIN_S)
            if not done:
                raise self._too_late()
            if self._steps.cancelled():
                raise SpawnRefusedError(
                    "Your server was stopped while it started.", reason="stopped"
                )
            url = self._steps.result()
        except Exception as e:
            # Whatever it is: a refusal does not count toward consecutive_failure_limit.
            refusal = to_refusal(
                e, team=self.team, servers=self._servers_of_team(), reader=self.user.name
            )
            if refusal.reason == "internal":
                self.log.exception("Starting %s failed", self._log_name)
            tell_not_started(
                self, server_id=self._start_id, reason=refusal.reason, because=str(refusal)
            )
            raise refusal from e
        finally:
            await self._end_steps()
            end_turn(self)
            self._progress_log.close()
        guard_first_answer(self, self._link.pods)
        return url

    def _take_over(self, adoption: Adoption) -> str:
        """URL of a server that runs already; it becomes ours only when nothing can fail any more.

        JupyterHub stops what fails on the way, and that must not be the pod.
        """
        view = adoption.view
        self.api_token = adoption.api_token  # JupyterHub takes it in place of the one it made

        async def answered(*args: Any, **kwargs: Any) -> Any:
            self.team, self.contest, self.gate = adoption.team, adoption.contest, adoption.gate
            self.namespace, self.pod_name = view.namespace, view.name
            self.server_id, self.pod_uid = view.server_id, view.uid
            self.remember()
            self.is_up = True
            tell_adopted(self, view)
            return ANSWER

        self.server.wait_up = answered
        return self.url_of(view)

    async def _end_steps(self) -> None:
        """Cancel a start under way, and wait until nothing more of it comes."""
        steps, self._steps = self._steps, None
        if steps is not None and not steps.done():
            steps.cancel()
            await asyncio.wait({steps})

    async def _start_steps(self) -> str:
        await self.load_user_options()
        self.last_end = ""
        self._progress_log.say(f"Starting in team {self.team}.", percent=2)
        if getattr(self, "internal_ssl", False):
            raise PermanentError("TeamSpawner does not support JupyterHub.internal_ssl.")
        self._link = await self._open_link()
        if not await self._link.wait_synced(timeout_s=_SYNC_S):
            raise SpawnRefusedError(
                "The cluster does not answer at the moment. Try again in a few minutes.",
                reason="cluster-away",
                status_code=503,
            )
        await self._ensure_namespace()
        start = ServerStart(self, self._link, self.rules, self._progress_log)
        self._start_id = start.server_id
        return await start.run()

    async def _ensure_namespace(self) -> None:
        """Wait until the team's namespace is ready. It is never made here."""
        url, token = self.provisioner_url, self.provisioner_token
        origin = current_origin()
        correlation = origin.correlation if origin is not None else ""
        waiter = NamespaceWaiter(
            self._link.client,
            self.platform,
            read_spec=self._read_spec,
            provisioner=ProvisionerLink(url, token, correlation) if url else None,
            say=lambda sentence, percent: self._progress_log.say(sentence, percent=percent),
        )
        await waiter.wait(timeout_s=self.readiness_timeout)

    @property
    def rules(self) -> PodRules:
        """What decides what this server's pod may be."""
        if self._spec is None or self._choice is None:
            raise RuntimeError("no choice yet")
        extra = frozenset(self.allowed_extra_images)
        return PodRules(self._spec, self._choice, self.platform, extra)

    def known_rules(self) -> PodRules | None:
        """What decides what this server's pod may be, as far as a start got; for what is told."""
        return None if self._spec is None or self._choice is None else self.rules

    def asked_team(self) -> str:
        """The team that was asked for, whether or not it was given."""
        asked = self.user_options.get("team") if isinstance(self.user_options, dict) else None
        return self.team or (asked if isinstance(asked, str) else "")

    def remember(self) -> None:
        """Write the state now: JupyterHub does it only once a start is over.

        A hub that dies in the middle finds the pod again by it.
        """
        self.orm_spawner.state = self.get_state()
        self.user.db.commit()

    def _too_late(self) -> SpawnRefusedError:
        hint = self._progress_log.last_warning
        return SpawnRefusedError(
            f"Your server did not start within {self.start_timeout} seconds."
            + (f" The last that was heard: {hint}" if hint else " Try again in a few minutes."),
            reason="timeout",
            status_code=504,
        )

    # -- while it runs ------------------------------------------------------------------------

    @unknown_without_database
    async def poll(self) -> int | None:
        """None while the server runs, or nobody knows; its exit code once it is known to be over.

        No answer is not death: JupyterHub gives a server up for good when a poll says it is over.
        """
        if self._steps is not None:
            return None  # stop ends the start
        if not self.server_id:
            return 0
        try:
            link = await self._open_link()
        except CollabError:
            self.log.exception("No cluster to ask about %s", self._log_name)
            return None
        reason, sentence = self._why_over()
        if reason:
            return self._over(link, f"Your server was stopped: {sentence}.", 1, reason=reason)
        if not await link.wait_synced(timeout_s=_POLL_SYNC_S):
            return None
        view = self.own(link.pods.get(self.namespace, self.pod_name))
        if view is None:
            # Or it was asked for, and no answer came: if it is there after all, it goes.
            last = link.pods.last_of(self.pod_uid)
            return self._over(link, to_end(last), 1, reason=to_end_reason(last))
        self.pod_uid = view.uid
        stuck = view.waiting in ("CreateContainerConfigError", "InvalidImageName")
        if view.is_dead or stuck:
            view = await link.pods.settle(view)
            code = view.exit_code if view.exit_code is not None else 1
            return self._over(link, to_end(view), code, reason=to_end_reason(view))
        if view.is_serving and self.server:
            self._follow_address(view)
        return None

    def _over(self, link: ClusterLink, why: str, code: int, *, reason: str) -> int:
        """Note that the server has ended by itself. Its pod goes: JupyterHub does not call stop."""
        self._tell_end(reason, because=why, is_seen=True)
        self.last_end = self.last_end or why  # the first look knows best
        self.log.warning("Server %s is over (code %s): %s", self._log_name, code, why)
        self._see_off(link)
        return code

    def _tell_end(self, reason: str, *, because: str = "", is_seen: bool = False) -> None:
        """Tell of the end of a server once. `is_seen`: nobody asked for it, it was found out."""
        if not self.is_up:
            return
        self.is_up = False
        origin = None if is_seen else current_origin()
        tell_stopped(self, reason, because=because, origin=origin)

    def _why_over(self) -> tuple[str, str]:
        """Why the server may not run any longer, by the hub's groups as they are now; else empty.

        A word, and the sentence.

        Settings that cannot be read end nothing: only what is known counts.
        """
        try:
            team_spec(self.user, self.team)
            gate = running_gate(self.user, self.team, now=datetime.now(timezone.utc))
        except SpecError:
            return "", ""
        except UserError:
            return "access-lost", f"{self.user.name} is not a member of team {self.team} any more"
        if gate is Gate.CLOSED:
            return "closed", f"team {self.team} is closed"
        if gate is Gate.FROZEN and self.gate != Gate.FROZEN.value:
            return "frozen", f"team {self.team} is frozen, and this server can write"
        because = closed_because(self.authenticator, self.user, self.team)
        return ("access-unconfirmed", because) if because else ("", "")

    def own(self, view: PodView | None) -> PodView | None:
        """The pod, if it is the one of this very start."""
        if view is None or view.server_id != self.server_id:
            return None
        return view if not self.pod_uid or view.uid == self.pod_uid else None

    def _follow_address(self, view: PodView) -> None:
        if (self.server.ip, self.server.port) != (view.ip, self.port):
            self.log.warning("%s is at another address now: %s", self._log_name, view.ip)
            self.server.ip, self.server.port = view.ip, self.port
            self.user.db.commit()

    async def get_url(self) -> str:
        """Where the server is. Waits for one whose start a dead hub left half-way."""
        # A hub that starts asks for it right before it waits for the server's answer, and would
        # stop a server that is only busy, or cut off for a moment.
        distrust_answer(self, is_patient=True)
        known: str = self.server.url
        try:
            link = await self._open_link()
            view = await link.pods.wait_for(
                self.namespace,
                self.pod_name,
                lambda v: v is None or v.is_serving or v.is_dead,
                timeout_s=self.start_timeout if link.pods.synced.is_set() else _POLL_SYNC_S,
            )
        except (CollabError, TimeoutError):
            return known
        view = self.own(view)
        return known if view is None or not view.is_serving else self.url_of(view)

    def url_of(self, view: PodView) -> str:
        """URL of a pod that serves."""
        host = f"[{view.ip}]" if ":" in view.ip else view.ip
        return f"http://{host}:{self.port}{self.server.base_url}"

    def is_server(self, claims: ServerClaims) -> bool:
        """Whether a credential is the one of the server that runs or starts now."""
        same = hmac.compare_digest(claims.server_id.encode(), self.server_id.encode())
        return bool(self.server_id) and same and self.active and claims.team == self.team

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """What happens while the server starts."""
        async for message in self._progress_log.follow():
            yield message

    def _servers_of_team(self) -> list[RunningServer]:
        """Servers that run or start in the team's namespace, this one not among them."""
        link = getattr(self, "_link", None)
        if link is None:
            return []
        return [
            RunningServer(view.username, view.server_name)
            for view in link.pods.in_namespace(self.namespace)
            if not view.is_dead and (view.username, view.server_name) != (self.user.name, self.name)
        ]

    # -- stop ---------------------------------------------------------------------------------

    async def stop(self, now: bool = False) -> None:
        """Delete the pod, and wait for a while until it is gone.

        If the cluster does not answer it is deleted when it does, even by another hub process.
        """
        carry_on()  # what JupyterHub still does for it belongs to whoever asked
        await self._end_steps()
        self._tell_end(stop_reason(self))
        going = self._see_off(await self._open_link())
        self.server_id = ""  # from now on the credential is worth nothing
        if going is None:
            return
        _, pending = await asyncio.wait({going}, timeout=_STOP_S if self.pod_uid else _SEARCH_S)
        if pending:
            self.log.warning("The pod of %s is not gone yet", self._log_name)

    def _see_off(self, link: ClusterLink) -> asyncio.Task[None] | None:
        """Have the pod deleted, however long it takes, and remember that it has to go."""
        if not self.server_id:
            return None
        leaving = Leaving(self.namespace, self.pod_name, self.server_id, self.pod_uid)
        if leaving not in self._leavings:
            self._leavings.append(leaving)
        return self._follow_leaving(link, leaving)

    def _follow_leaving(self, link: ClusterLink, leaving: Leaving) -> asyncio.Task[None]:
        task = link.see_off(leaving)
        task.add_done_callback(lambda t: None if t.cancelled() else self._gone(leaving))
        return task

    def _gone(self, leaving: Leaving) -> None:
        if leaving in self._leavings:
            self._leavings.remove(leaving)

    async def _open_link(self) -> ClusterLink:
        """The hub's link; what an earlier process was still to delete is taken up with it."""
        link = await open_link(hub_id=self.platform.hub_id)
        sweep(link, self.user.db, prefix=self.platform.namespace_prefix)
        for leaving in list(self._leavings):
            self._follow_leaving(link, leaving)
        return link

    async def delete_forever(self) -> None:
        """Deletes nothing: volumes belong to the team, and stay until a retention decision."""
        self.log.info("Volumes of %s stay with the team", self._log_name)

    # -- state --------------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """The running server, for poll and stop after a restart of the hub; and what has to go.

        A start reads nothing of it.
        """
        state: dict[str, Any] = {}
        if self.server_id:
            state["collab"] = {key: getattr(self, key) for key in (*_STATE_KEYS, "gate")}
        if self.last_end:
            state[_LAST_END_KEY] = self.last_end
        if self._leavings:
            state[LEAVINGS_KEY] = [leaving.to_state() for leaving in self._leavings]
        return state

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what another hub process knew."""
        known = state.get("collab")
        if isinstance(known, Mapping) and all(isinstance(known.get(k), str) for k in _STATE_KEYS):
            for key in _STATE_KEYS:
                setattr(self, key, known[key])
            self.gate = str(known.get("gate") or "")
            self.is_up = bool(self.server_id)
            note(self)
        self.last_end = str(state.get(_LAST_END_KEY) or "")
        self._leavings = leavings_in(state)

    def clear_state(self) -> None:
        """Forget the server, not what has to go. JupyterHub calls it before each start too."""
        end_turn(self)  # of a start that was cancelled before it began
        self._forget_server()
        if self._progress_log.is_closed:
            self._progress_log = ProgressLog()

    def _forget_server(self) -> None:
        self.team = self.contest = self.server_id = self.pod_uid = self.gate = ""
        self.namespace = self.pod_name = ""
        self.is_up = False
        self._spec = self._choice = None


_LAST_END_KEY: Final = "collab_last_end"
_STATE_KEYS: Final = ("team", "contest", "namespace", "pod_name", "server_id", "pod_uid")
