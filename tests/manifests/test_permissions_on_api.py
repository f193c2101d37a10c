"""Each account may do what the table says, nothing more and nothing less, on a real API server.

Asked of the server for everything it knows (SubjectAccessReview), and tried with the real tokens
where it matters most.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import yaml

from jupyterhub_collab import constants
from jupyterhub_collab.manifests.tenancy import make_tenancy
from jupyterhub_collab.models import TeamSpec
from jupyterhub_collab.policy.permissions import ACCOUNTS, Account, Holder, permissions_of

from .acting import HOME, Actor, Ground, delete, until
from .conftest import to_team

pytestmark = pytest.mark.api
COMMON_VERBS = (
    *("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"),
)
VERBS = (
    *COMMON_VERBS,
    *("bind", "escalate", "impersonate", "approve", "sign", "use", "proxy"),
)
# Where the other verbs mean something; the campaign asks all of everything. That no rule names more
# verbs than the table is seen in the server's own list of rules besides.
SPECIAL = {
    *("clusterroles", "roles", "users", "groups", "uids", "userextras/scopes", "serviceaccounts"),
    *("signers", "certificatesigningrequests", "priorityclasses", "nodes", "pods", "services"),
    "widgets",
}
# What no discovery lists, and what RBAC knows all the same.
UNLISTED = (
    ("", "users"),
    ("", "groups"),
    ("authentication.k8s.io", "uids"),
    ("authentication.k8s.io", "userextras/scopes"),
    ("certificates.k8s.io", "signers"),
    ("", "nodes/metrics"),
    ("", "nodes/stats"),
    ("example.org", "widgets"),
)
PATHS = ("/metrics", "/logs", "/debug/pprof", "/configz")
# Everybody who is known at all may ask what they may do.
EVERYBODY = {"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"}
RIGHTLESS = ("audit", "contests")
OTHER_TEAM = "manifests-another-hubs-team"
CLUSTER = ""
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
AT_ONCE = 32


@dataclass(frozen=True)
class Question:
    """May this account do this there."""

    account: str
    group: str
    resource: str
    verb: str
    namespace: str
    name: str = ""

    def to_review(self) -> dict[str, Any]:
        home = HOME if self.account != constants.SERVICE_ACCOUNT_NAME else "manifests-team-ocean"
        resource, _, subresource = self.resource.partition("/")
        attributes = {
            "group": self.group,
            "resource": resource,
            "subresource": subresource,
            "verb": self.verb,
            "namespace": self.namespace,
            "name": self.name,
        }
        spec = {**as_account(self.account, home), "resourceAttributes": attributes}
        return review(spec)


def as_account(name: str, namespace: str) -> dict[str, Any]:
    accounts = "system:serviceaccounts"
    groups = [accounts, f"{accounts}:{namespace}", "system:authenticated"]
    return {"user": f"system:serviceaccount:{namespace}:{name}", "groups": groups}


def review(spec: dict[str, Any]) -> dict[str, Any]:
    api = "authorization.k8s.io/v1"
    return {"apiVersion": api, "kind": "SubjectAccessReview", "spec": spec}


@pytest.fixture(scope="module")
def asker(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Actor]:
    """An account that may ask what others may do."""
    name, group = "manifests-asker", "rbac.authorization.k8s.io"
    account = {"kind": "ServiceAccount", "name": name, "namespace": HOME}
    made = (
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": HOME},
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "system:auth-delegator"},
            "subjects": [account],
        },
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": OTHER_TEAM,
                "labels": {
                    constants.LABEL_MANAGED_BY: constants.MANAGED_BY,
                    constants.LABEL_HUB: "another-hub",
                    constants.LABEL_TEAM: "ocean",
                },
            },
        },
    )
    ground.admin.apply(*made)
    kubeconfig = tmp_path_factory.mktemp("asker") / "kubeconfig"
    actor = Actor(ground.admin, ground.admin.service_account_kubeconfig(HOME, name, kubeconfig))
    yield actor
    actor.http.close()
    delete(ground.admin, *made)


def discovered(actor: Actor) -> list[tuple[str, str, bool]]:
    """Group, resource (with its subresource) and whether it is namespaced, of all there is."""
    paths = ["/api/v1"]
    groups = actor.http.get("/apis").json()["groups"]
    paths += [f"/apis/{v['groupVersion']}" for group in groups for v in group["versions"]]
    found: dict[tuple[str, str], bool] = dict.fromkeys(UNLISTED, False)
    for path in paths:
        answer = actor.http.get(path).json()
        group = answer["groupVersion"].rpartition("/")[0]
        for resource in answer["resources"]:
            found[group, resource["name"]] = resource["namespaced"]
    return [(group, name, namespaced) for (group, name), namespaced in sorted(found.items())]


def expected(question: Question, team: str) -> bool:
    """What the table says."""
    (account,) = (a for a in ACCOUNTS if a.name == question.account)
    if question.verb == "create" and question.resource in EVERYBODY:
        return True
    places = {
        Holder.HUB_IN_TEAM: question.namespace == team,
        Holder.HUB_EVERYWHERE: True,
        Holder.PROVISIONER: True,
        Holder.PROVISIONER_AT_HOME: question.namespace == HOME,
    }
    return any(
        places[holder]
        and (line.api_group, line.resource) == (question.group, question.resource)
        and question.verb in line.verbs
        and (not line.names or question.name in line.names)
        for holder in account.holders
        for line in permissions_of(holder)
    )


def all_questions(actor: Actor, team: str, *, everywhere: bool) -> Iterator[Question]:
    """Everything, in all places; or in those only that the table knows."""
    known = discovered(actor)
    for account in ACCOUNTS:
        places = [team, CLUSTER, *([HOME] if account.holders else [])]
        if everywhere:
            places = [team, CLUSTER, HOME, OTHER_TEAM, "kube-system", "default"]
        for group, resource, namespaced in known:
            # A namespace is a place of its own to RBAC: a role there may let it be read.
            inside = namespaced or resource == "namespaces"
            verbs = VERBS if everywhere or resource in SPECIAL else COMMON_VERBS
            for place in places if inside else [CLUSTER]:
                for verb in verbs:
                    yield Question(account.name, group, resource, verb, place)
            for name in names_in_table(account, resource):
                for place, verb in itertools.product(places, VERBS):
                    yield Question(account.name, group, resource, verb, place, name)


def names_in_table(account: Account, resource: str) -> set[str]:
    lines = [p for holder in account.holders for p in permissions_of(holder)]
    found = {name for p in lines if p.resource == resource for name in p.names}
    return found | {"another"} if found else set()


async def ask_all(actor: Actor, questions: list[Question]) -> list[Question]:
    """Those that are allowed."""
    config = yaml.safe_load(actor.kubeconfig.read_text())
    cluster, token = config["clusters"][0]["cluster"], config["users"][0]["user"]["token"]
    authority = b64decode(cluster["certificate-authority-data"]).decode()
    url = cluster["server"] + REVIEWS
    allowed: list[Question] = []
    waiting = iter(questions)

    async def ask(session: aiohttp.ClientSession) -> None:
        for question in waiting:
            async with session.post(url, json=question.to_review()) as answer:
                answer.raise_for_status()
                if (await answer.json())["status"]["allowed"]:
                    allowed.append(question)

    context = ssl.create_default_context(cadata=authority)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context, limit=AT_ONCE),
        headers={"Authorization": f"Bearer {token}"},
    ) as session:
        await asyncio.gather(*(ask(session) for _ in range(AT_ONCE)))
    return allowed


@pytest.mark.parametrize(
    "everywhere",
    [
        pytest.param(False, id="where-the-table-speaks"),
        pytest.param(True, id="everywhere", marks=pytest.mark.campaign),
    ],
)
async def test_the_server_allows_what_the_table_says_nothing_more_and_nothing_less(
    ground: Ground, ocean: tuple[TeamSpec, str], asker: Actor, everywhere: bool
) -> None:
    _, team = ocean
    probe = Question("hub", "", "pods", "get", team).to_review()
    until(lambda: asker.http.post(REVIEWS, json=probe).is_success)
    questions = list(all_questions(asker, team, everywhere=everywhere))
    resources = {(q.group, q.resource) for q in questions}
    assert len(resources) > 100, "discovery found too little"
    assert {("", "pods/exec"), ("", "serviceaccounts/token"), ("", "pods/eviction")} <= resources
    allowed = set(await ask_all(asker, questions))
    wanted = {question for question in questions if expected(question, team)}
    assert allowed - wanted == set(), "more than the table says"
    assert wanted - allowed == set(), "less than the table says"
    print(f"{len(questions)} questions, {len(allowed)} allowed")


def rules_of(actor: Actor, namespace: str) -> set[tuple[str, str, str, tuple[str, ...]]]:
    """All that an account may do in a namespace, as the server lists it."""
    api = "authorization.k8s.io/v1"
    document = {"apiVersion": api, "kind": "SelfSubjectRulesReview"}
    answer = actor.http.post(
        f"/apis/{api}/selfsubjectrulesreviews", json={**document, "spec": {"namespace": namespace}}
    )
    return {
        (group, resource, verb, tuple(rule.get("resourceNames", ())))
        for rule in answer.json()["status"]["resourceRules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if resource not in EVERYBODY
    }


def test_the_servers_list_of_rules_is_the_table_in_every_place(
    ground: Ground,
    ocean: tuple[TeamSpec, str],
    asker: Actor,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    _, team = ocean
    rightless = {name: make_rightless(ground, name, tmp_path_factory) for name in RIGHTLESS}
    actors = {"hub": ground.hub, "provisioner": ground.provisioner, **rightless}
    everywhere = {Holder.HUB_EVERYWHERE, Holder.PROVISIONER}
    local = {team: Holder.HUB_IN_TEAM, HOME: Holder.PROVISIONER_AT_HOME}
    for account in (a for a in ACCOUNTS if a.name in actors):
        for place in (team, HOME, OTHER_TEAM, "kube-system", "default"):
            reach = everywhere | {local[place]} if place in local else everywhere
            assert rules_of(actors[account.name], place) == {
                (p.api_group, p.resource, verb, p.names)
                for holder in account.holders
                if holder in reach
                for p in permissions_of(holder)
                for verb in p.verbs
            }, (account.name, place)
    for actor in rightless.values():
        actor.http.close()


def test_no_account_reaches_the_servers_own_pages(
    ground: Ground, ocean: tuple[TeamSpec, str], asker: Actor
) -> None:
    for account, path in itertools.product(ACCOUNTS, PATHS):
        home = ocean[1] if account.name == constants.SERVICE_ACCOUNT_NAME else HOME
        attributes = {"path": path, "verb": "get"}
        spec = {**as_account(account.name, home), "nonResourceAttributes": attributes}
        answer = asker.http.post(REVIEWS, json=review(spec)).json()
        assert answer["status"]["allowed"] is False


def forbidden(actor: Actor, *arguments: str, stdin: object = None) -> bool:
    result = actor.kubectl(*arguments, stdin=stdin, check=False)
    return result.returncode != 0 and "orbidden" in result.stderr


def test_the_hub_makes_secrets_and_reads_none(ground: Ground, ocean: tuple[TeamSpec, str]) -> None:
    _, team = ocean
    for namespace in (team, HOME, "kube-system", "default"):
        assert forbidden(ground.hub, "get", "secrets", "-n", namespace)
        assert forbidden(ground.hub, "get", "secret", "any", "-n", namespace)
        assert forbidden(ground.hub, "delete", "secret", "any", "-n", namespace)
    secrets = f"/api/v1/namespaces/{team}/secrets"
    assert ground.hub.http.get(secrets, params={"watch": "true"}).status_code == 403
    labels = make_tenancy(*_of(ground, ocean))[0]["metadata"]["labels"]
    labels = {k: v for k, v in labels.items() if "pod-security" not in k}
    labels[constants.LABEL_COMPONENT] = constants.COMPONENT_SERVER
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "server-ada", "uid": "u"}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": "server-ada-0123abcd",
            "namespace": team,
            "labels": labels,
            "ownerReferences": [owner],
        },
    }
    assert ground.hub.create(secret) == ""
    for place in (HOME, "kube-system"):
        elsewhere = {**secret, "metadata": {**secret["metadata"], "namespace": place}}
        assert "forbidden" in ground.hub.create(elsewhere)


def _of(ground: Ground, ocean: tuple[TeamSpec, str]) -> tuple[TeamSpec, Any]:
    return ocean[0], ground.platform


def test_nobody_but_the_provisioner_makes_namespaces(
    ground: Ground, tmp_path_factory: pytest.TempPathFactory
) -> None:
    namespace = make_tenancy(to_team(ground, "made")[0], ground.platform)[0]
    assert ground.provisioner.create(namespace) == ""
    rightless = [make_rightless(ground, name, tmp_path_factory) for name in RIGHTLESS]
    for other in (ground.hub, *rightless):
        assert "forbidden" in other.create(namespace)
    for actor in rightless:
        actor.http.close()


def make_rightless(ground: Ground, account: str, tmp_path_factory: pytest.TempPathFactory) -> Actor:
    """It mounts no token anywhere; the administrator makes one here, as a thief might."""
    kubeconfig = tmp_path_factory.mktemp(account) / "kubeconfig"
    return Actor(ground.admin, ground.admin.service_account_kubeconfig(HOME, account, kubeconfig))


@pytest.mark.parametrize("account", RIGHTLESS)
def test_who_has_no_right_can_do_nothing(
    ground: Ground,
    ocean: tuple[TeamSpec, str],
    tmp_path_factory: pytest.TempPathFactory,
    account: str,
) -> None:
    actor = make_rightless(ground, account, tmp_path_factory)
    for namespace in (ocean[1], HOME, "kube-system"):
        for resource in ("pods", "secrets", "configmaps", "events", "serviceaccounts"):
            assert actor.http.get(f"/api/v1/namespaces/{namespace}/{resource}").status_code == 403
    for path in ("/api/v1/namespaces", "/api/v1/nodes", "/api/v1/persistentvolumes"):
        assert actor.http.get(path).status_code == 403
    made = ground.admin.get("serviceaccount", account, "-n", HOME)
    assert made["automountServiceAccountToken"] is False
    actor.http.close()


def test_the_provisioner_binds_one_role_by_name_and_only_where_a_team_is(
    ground: Ground, ocean: tuple[TeamSpec, str]
) -> None:
    tenancy = {m["kind"]: m for m in make_tenancy(*_of(ground, ocean))}
    binding = tenancy["RoleBinding"]

    def bound(name: str, namespace: str, kind: str = "ClusterRole") -> str:
        reference = {**binding["roleRef"], "name": name, "kind": kind}
        meta = {**binding["metadata"], "name": "x", "namespace": namespace}
        return ground.provisioner.create({**binding, "roleRef": reference, "metadata": meta})

    assert bound(constants.HUB_CLUSTER_ROLE, ocean[1]) == ""
    for role in ("cluster-admin", "admin", "view", constants.PROVISIONER_CLUSTER_ROLE):
        assert "forbidden" in bound(role, ocean[1])
    assert bound("any", ocean[1], "Role") != ""
    for namespace in ("kube-system", "default", HOME, OTHER_TEAM):
        assert bound(constants.HUB_CLUSTER_ROLE, namespace) != ""
    cluster = {**binding, "kind": "ClusterRoleBinding", "metadata": {"name": "x"}}
    assert "forbidden" in ground.provisioner.create(cluster)


@pytest.mark.parametrize("namespace", ["kube-system", "default", HOME, OTHER_TEAM])
def test_the_provisioner_is_refused_everywhere_else(
    ground: Ground, ocean: tuple[TeamSpec, str], asker: Actor, namespace: str
) -> None:
    """All that it makes in a team's namespace, elsewhere."""
    tried = 0
    for manifest in make_tenancy(*_of(ground, ocean)):
        meta = manifest["metadata"]
        if "namespace" not in meta or manifest["kind"] == "PersistentVolume":
            continue
        here = {**manifest, "metadata": {**meta, "name": f"{meta['name']}-x"}}
        if manifest["kind"] in ("NetworkPolicy", "LimitRange", "ServiceAccount"):
            assert ground.provisioner.create(here) == "", "what is refused elsewhere is not so here"
        there = {**here, "metadata": {**here["metadata"], "namespace": namespace}}
        assert "ValidatingAdmissionPolicy" in ground.provisioner.create(there)
        tried += 1
    assert tried > 5
