"""The second key: a namespace or a volume goes only if an admin of the cluster says so too.

The provisioner deletes what a team has when the hub's groups say so. Hub and provisioner may both
be taken over, or a host may be mistaken; so the cluster itself asks for a second word. A ConfigMap
in the hub's namespace, which no account of ours can write, names what may be destroyed:

    kubectl patch configmap collab-retention -n jupyterhub --type=merge \\
        -p '{"data": {"team.ocean": "<uid of the team's namespace>"}}'

With a uid the word is spent when that namespace is gone: another one that comes to bear the name is
not released by it. Volumes of data sets bear no namespace's uid; such a word releases those of the
team that no claim is bound to, and what they point to stays in any case. ``destroy`` in place of a
uid holds for as long as it stands there, and ``contest.<contest>: destroy`` releases all teams of a
contest. The ConfigMap comes empty with the policy.
Where it is missing nobody deletes anything of ours, an administrator neither: the API server then
refuses without asking who it is. So the policy looks at nothing but what bears this hub's labels.
"""

from __future__ import annotations

from ..constants import (
    LABEL_HUB,
    LABEL_MANAGED_BY,
    MANAGED_BY,
    RETENTION_CONFIG_MAP,
    RETENTION_DESTROY,
    RETENTION_UID,
)
from ..models import Platform
from .admission import DELETE, Policy, Target, contest_of, is_account, literal, make_policy, team_of
from .manifest import Manifest


def make_retention(platform: Platform) -> tuple[Manifest, ...]:
    """ConfigMap, policy and binding, in apply order."""
    return (_make_decisions(platform), *_make_policy(platform))


def _make_decisions(platform: Platform) -> Manifest:
    """The ConfigMap, without a word on its data: those are the administrator's."""
    labels = {LABEL_MANAGED_BY: MANAGED_BY, LABEL_HUB: platform.hub_id}
    metadata = {"name": RETENTION_CONFIG_MAP, "namespace": platform.hub_namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def _make_policy(platform: Platform) -> tuple[Manifest, Manifest]:
    where = f"the ConfigMap {RETENTION_CONFIG_MAP} in {platform.hub_namespace}"
    return make_policy(
        Policy(
            "retention",
            (Target((DELETE,), ("namespaces", "persistentvolumes")),),
            (
                (
                    f"{_is_released('team', team_of('oldObject'))}"
                    f" || {_is_released('contest', contest_of('oldObject'))}"
                    f" || {_is_named(team_of('oldObject'))}",
                    f"{where} does not release this: an administrator of the cluster sets team.TEAM"
                    " in it to the namespace's uid, or team.TEAM or contest.CONTEST to"
                    f" {RETENTION_DESTROY}",
                ),
            ),
            conditions={
                "the-provisioner": is_account(platform.provisioner_service_account, platform)
            },
            ours_only=True,
            parameter=RETENTION_CONFIG_MAP,
        ),
        platform,
    )


def _said(word: str, name: str) -> str:
    return f'params.?data[?({literal(word + ".")} + {name})].orValue("")'


def _is_released(word: str, name: str) -> str:
    return f'({name} != "" && {_said(word, name)} == {literal(RETENTION_DESTROY)})'


def _is_named(team: str) -> str:
    """CEL: the namespace's uid is said of the team; any uid, where it is a volume in no use."""
    said = _said("team", team)
    is_free = 'oldObject.?status.?phase.orValue("") != "Bound"'
    return (
        f'({team} != "" && (request.resource.resource == "namespaces"'
        f" ? {said} == oldObject.metadata.uid"
        f" : {said}.matches({literal(RETENTION_UID)}) && {is_free}))"
    )
