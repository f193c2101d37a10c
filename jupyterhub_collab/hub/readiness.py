"""Waits until a team's namespace is as the hub's groups want it. Never creates one.

The spec that the hub merges from its groups has a hash; the provisioner writes the hash of the spec
whose whole tenancy stands on the hub's RoleBinding in the namespace. Equal, and the deny-all policy
in place: go. Otherwise the provisioner is nudged, asked what it is at, and the namespace looked at
again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from .. import constants, names
from ..auditapi.correlation import HEADER
from ..errors import KubeError, PermanentError, RetryableError
from ..kube.client import KubeClient
from ..kube.errors import NotFoundError
from ..kube.kinds import NAMESPACE, NETWORK_POLICY, ROLE_BINDING
from ..models import Platform, TeamSpec
from .refusals import ADMIN, SpawnRefusedError

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 1.0
_ASK_EVERY_S: Final = 2.0  # what the provisioner is at
_REQUEST_S: Final = 10.0

Say = Callable[[str, int], None]  # sentence, per cent


@dataclass(frozen=True)
class ProvisionerLink:
    """Where the provisioner is and how to be let in."""

    url: str
    token: str
    correlation: str = ""  # of the start, for the audit log

    def __repr__(self) -> str:
        return f"ProvisionerLink({self.url})"

    async def provision(self, team: str) -> tuple[int, dict[str, Any]]:
        """Ask for a team to be provisioned now. Status and answer; status 0: none came."""
        return await self._fetch("POST", f"teams/{team}/provision")

    async def state_of(self, team: str) -> dict[str, Any]:
        """What the provisioner says of a team; empty when it does not answer."""
        status, body = await self._fetch("GET", f"teams/{team}")
        return body if status == 200 else {}

    async def _fetch(self, method: str, path: str) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"token {self.token}"}
        if self.correlation:
            headers[HEADER] = self.correlation
        request = HTTPRequest(
            f"{self.url.rstrip('/')}/{path}",
            method=method,
            headers=headers,
            body="" if method == "POST" else None,
            connect_timeout=_REQUEST_S,
            request_timeout=_REQUEST_S,
            follow_redirects=False,  # a redirect is a login page, and must not get the token
        )
        try:
            response = await AsyncHTTPClient().fetch(request, raise_error=False)
        except (OSError, ValueError):
            return 0, {}
        try:
            body = json.loads(response.body or b"{}")
        except ValueError:
            body = {}
        # 599: tornado's word for no answer
        status = 0 if response.code == 599 else response.code
        return status, body if isinstance(body, dict) else {}


class NamespaceWaiter:
    """Waits for one team's namespace.

    Parameters
    ----------
    read_spec
        The team's spec as it is now; called at each look, raises when the person may not start.
    provisioner
        None: nobody is nudged, the provisioner finds out by itself.
    say
        Told what is going on.
    """

    def __init__(
        self,
        client: KubeClient,
        platform: Platform,
        *,
        read_spec: Callable[[], TeamSpec],
        provisioner: ProvisionerLink | None,
        say: Say,
    ) -> None:
        self._client = client
        self._platform = platform
        self._read_spec = read_spec
        self._provisioner = provisioner
        self._say = say
        self._silent = False  # the provisioner did not answer when last asked
        self._trouble = ""

    async def wait(self, *, timeout_s: float) -> TeamSpec:
        """The spec that the namespace is ready for.

        Raises
        ------
        SpawnRefusedError
            It cannot be prepared, or was not in time; says why.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        pause_s, asked_at, nudged = _FIRST_PAUSE_S, 0.0, ""
        while True:
            spec = self._read_spec()
            if await self._is_ready(spec):
                return spec
            if nudged != spec.hash():
                self._say(f"The space of team {spec.team} is being prepared.", 10)
                nudged = spec.hash() if await self._nudge(spec.team) else ""
                asked_at = loop.time()
            elif loop.time() - asked_at >= _ASK_EVERY_S:
                await self._ask(spec.team)
                asked_at = loop.time()
            if loop.time() + pause_s > deadline:
                raise self._too_late(spec.team, timeout_s)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)

    async def _is_ready(self, spec: TeamSpec) -> bool:
        namespace = names.namespace_of(spec.team, prefix=self._platform.namespace_prefix)
        found, binding, policy = await asyncio.gather(
            self._get(NAMESPACE, namespace, None),
            self._get(ROLE_BINDING, constants.HUB_ROLE_BINDING_NAME, namespace),
            self._get(NETWORK_POLICY, constants.POLICY_DENY_ALL, namespace),
        )
        if found is None:
            return False
        meta = found["metadata"]
        labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
        if not is_ours(labels, spec.team, self._platform):
            raise SpawnRefusedError(
                f"The namespace {namespace} is not the one of team {spec.team}: somebody else made"
                f" it. {ADMIN}",
                reason="not-ours",
                status_code=409,
            )
        if meta.get("deletionTimestamp"):
            self._trouble = f"the namespace {namespace} is being deleted"
            return False
        # Both: the spec's own annotation tells that nobody put in another one since.
        wanted = spec.hash()
        ready = _mark_of(binding, spec.team, self._platform) == wanted
        ready = ready and annotations.get(constants.ANNOTATION_SPEC_HASH) == wanted
        return ready and _is_deny_all(policy, spec.team, self._platform)

    async def _get(self, kind: Any, name: str, namespace: str | None) -> dict[str, Any] | None:
        try:
            return await self._client.get(kind, name, namespace)
        except NotFoundError:
            return None
        except RetryableError as error:
            self._trouble = "the cluster does not answer"
            self._say("The cluster does not answer at the moment. Trying again.", 5)
            if error.retry_after_s:
                await asyncio.sleep(min(error.retry_after_s, _REQUEST_S))
            return None
        except PermanentError as error:
            # The hub's rights in a namespace come with it: before that, the answer is 403.
            if isinstance(error, KubeError) and error.status == 403:
                return None
            raise

    async def _nudge(self, team: str) -> bool:
        """Whether the provisioner took notice."""
        if self._provisioner is None:
            return True
        status, body = await self._provisioner.provision(team)
        self._silent = status == 0 or status >= 500
        if status == 422:
            raise self._cannot(team, _reasons(body))
        if status in (401, 403):
            raise SpawnRefusedError(
                f"The hub may not ask the provisioner to prepare team {team}. {ADMIN}",
                reason="provisioner-token",
                status_code=500,
                detail=f"the provisioner answered {status}: check its token's scopes",
            )
        # 404: it has not read the groups yet; it is asked again.
        return status in (200, 202)

    async def _ask(self, team: str) -> None:
        if self._provisioner is None:
            return
        state = await self._provisioner.state_of(team)
        self._silent = not state
        trouble = to_trouble(state)
        if trouble:
            self._trouble = trouble
            self._say(f"The space of team {team} is not ready yet: {trouble}.", 10)
        if state.get("state") == "failed":
            # Somebody has to do something first: waiting longer would not help.
            raise self._cannot(team, trouble or "the provisioner gave no reason")

    def _cannot(self, team: str, reason: str) -> SpawnRefusedError:
        return SpawnRefusedError(
            f"Team {team}'s space could not be prepared: {reason.rstrip('.')}.",
            reason="not-prepared",
            status_code=409,
        )

    def _too_late(self, team: str, timeout_s: float) -> SpawnRefusedError:
        if self._silent:
            why = "the service that prepares it does not answer"
        else:
            why = self._trouble or "it takes longer than usual"
        return SpawnRefusedError(
            f"Team {team}'s space was not ready within {timeout_s:.0f} seconds: {why}. Try again"
            " in a few minutes.",
            reason="not-ready",
            status_code=503,
        )


def is_ours(labels: Mapping[str, str], team: str, platform: Platform) -> bool:
    """Whether an object bears this hub's labels for this team."""
    wanted = {
        constants.LABEL_MANAGED_BY: constants.MANAGED_BY,
        constants.LABEL_HUB: platform.hub_id,
        constants.LABEL_TEAM: team,
    }
    return all(labels.get(key) == value for key, value in wanted.items())


def _mark_of(binding: Mapping[str, Any] | None, team: str, platform: Platform) -> str | None:
    """The ready mark, if the binding is ours and stays."""
    if binding is None or not is_ours(binding["metadata"].get("labels") or {}, team, platform):
        return None
    if binding["metadata"].get("deletionTimestamp"):
        return None
    mark: str | None = (binding["metadata"].get("annotations") or {}).get(
        constants.ANNOTATION_READY_HASH
    )
    return mark


def _is_deny_all(policy: Mapping[str, Any] | None, team: str, platform: Platform) -> bool:
    """Whether the policy is ours, for all pods, both ways, and opens nothing."""
    if policy is None or not is_ours(policy["metadata"].get("labels") or {}, team, platform):
        return False
    spec = policy.get("spec") or {}
    closed = not spec.get("podSelector") and not spec.get("ingress") and not spec.get("egress")
    return closed and {"Ingress", "Egress"} <= set(spec.get("policyTypes") or [])


def to_trouble(state: Mapping[str, Any]) -> str:
    """Why a team is not ready, as the provisioner tells it; empty when it says nothing."""
    found = [
        line.strip().rstrip(".")
        for c in state.get("conditions") or []
        if isinstance(c, Mapping) and c.get("type") == "Ready" and c.get("status") == "False"
        for line in str(c.get("message") or "").splitlines()
    ]
    text = "; ".join(dict.fromkeys(line for line in found if line))
    return text or str(state.get("lastError") or "").rstrip(".")


def _reasons(body: Mapping[str, Any]) -> str:
    """Why a spec is refused, from a 422: its problems, or else its message."""
    problems = [
        f"{p.get('field')}: found {p.get('found')}, expected {p.get('expected')}"
        for p in body.get("problems") or []
        if isinstance(p, Mapping)
    ]
    return "; ".join(problems) or str(body.get("message") or "no reason was given")
