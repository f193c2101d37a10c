"""ResourceQuota: what is counted, when it binds, and the exact words of a refusal."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from .client import Api, path_of

STORAGE = "slow.storageclass.storage.k8s.io"


async def _quota(api: Api, namespace: str, **hard: str) -> None:
    """Set the quota `team`, and wait until it is in force."""
    body = {"metadata": {"name": "team"}, "spec": {"hard": hard}}
    (await api.post(path_of("resourcequotas", namespace), body)).expect()
    await _until_hard(api, namespace, hard)


async def _until_hard(api: Api, namespace: str, hard: dict[str, str]) -> None:
    path = path_of("resourcequotas", namespace, "team")
    await api.until(path, lambda a: a.body["status"].get("hard") == hard)


async def _until_answers(api: Api, path: str, body: dict[str, Any], code: int) -> None:
    """Try, in dry runs, until admission sees the quota as its status tells it: moments later."""
    loop = asyncio.get_running_loop()
    end = loop.time() + 20
    while (answer := await api.post(path, body, dryRun="All")).code != code:
        assert loop.time() < end, answer
        await asyncio.sleep(0.05)


async def _until_used(api: Api, namespace: str, **used: str) -> None:
    path = path_of("resourcequotas", namespace, "team")
    await api.until(path, lambda a: used.items() <= a.body["status"].get("used", {}).items())


def _pod(name: str, limits: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "main", "image": "none"}
    if limits:
        container["resources"] = {"limits": limits}
    return {"metadata": {"name": name}, "spec": {"containers": [container], **spec}}


def _claim(name: str, size: str, storage_class: str = "slow") -> dict[str, Any]:
    resources = {"requests": {"storage": size}}
    modes = ["ReadWriteOnce"]
    spec = {"storageClassName": storage_class, "accessModes": modes, "resources": resources}
    return {"metadata": {"name": name}, "spec": spec}


async def test_in_force_when_its_status_says_so(api: Api, namespace: str) -> None:
    """A new or changed quota is in force moments after `status.hard` equals `spec.hard`."""
    await _quota(api, namespace, pods="0")
    await _until_answers(api, path_of("pods", namespace), _pod("a"), 403)
    (await api.post(path_of("pods", namespace), _pod("a"))).expect(403)
    path = path_of("resourcequotas", namespace, "team")
    (await api.patch(path, {"spec": {"hard": {"pods": "1"}}})).expect()
    await _until_hard(api, namespace, {"pods": "1"})
    await _until_answers(api, path_of("pods", namespace), _pod("a"), 201)
    (await api.post(path_of("pods", namespace), _pod("a"))).expect(201)


async def test_words_of_a_refusal(api: Api, namespace: str) -> None:
    """A refusal answers 403 `Forbidden` and says quota, requested, used and limited; only the
    keys that are exceeded, and quantities as they were written."""
    hard = {"limits.cpu": "8", "requests.cpu": "8", "limits.memory": "16Gi", "pods": "4"}
    await _quota(api, namespace, **hard)
    big = _pod("a", {"cpu": "7", "memory": "1Gi"})
    big["spec"]["containers"][0]["resources"]["requests"] = {"cpu": "500m"}
    (await api.post(path_of("pods", namespace), big)).expect()
    await _until_used(api, namespace, **{"limits.cpu": "7", "requests.cpu": "500m"})
    answer = await api.post(path_of("pods", namespace), _pod("b", {"cpu": "2", "memory": "1Gi"}))
    body = answer.expect(403)
    assert body["reason"] == "Forbidden"
    assert body["details"] == {"name": "b", "kind": "pods"}
    assert body["message"] == (
        'pods "b" is forbidden: exceeded quota: team, '
        "requested: limits.cpu=2, used: limits.cpu=7, limited: limits.cpu=8"
    )


async def test_several_keys_in_a_refusal(api: Api, namespace: str) -> None:
    """Several exceeded keys come in alphabetical order, separated by commas."""
    await _quota(api, namespace, **{"limits.memory": "1Gi", "limits.cpu": "1500m", "pods": "5"})
    answer = await api.post(path_of("pods", namespace), _pod("b", {"cpu": "2", "memory": "1536Mi"}))
    assert answer.expect(403)["message"] == (
        'pods "b" is forbidden: exceeded quota: team, '
        "requested: limits.cpu=2,limits.memory=1536Mi, used: limits.cpu=0,limits.memory=0, "
        "limited: limits.cpu=1500m,limits.memory=1Gi"
    )


async def test_must_specify(api: Api, namespace: str) -> None:
    """Under a quota on cpu or memory a container that names none is refused: `must specify`."""
    hard = {"limits.cpu": "8", "limits.memory": "8Gi", "requests.cpu": "8"}
    await _quota(api, namespace, **hard)
    body = (await api.post(path_of("pods", namespace), _pod("a"))).expect(403)
    assert body["message"] == (
        'pods "a" is forbidden: failed quota: team: must specify limits.cpu for: main; '
        "limits.memory for: main; requests.cpu for: main"
    )


async def test_short_names_mean_requests(api: Api, namespace: str) -> None:
    """`cpu` and `memory` in a quota mean requests; a limit without a request is a request too."""
    await _quota(api, namespace, cpu="2", memory="1Gi")
    pod = _pod("a", {"cpu": "1500m", "memory": "512Mi"})
    (await api.post(path_of("pods", namespace), pod)).expect()
    await _until_used(api, namespace, cpu="1500m", memory="512Mi")


async def test_quota_comes_before_existence(api: Api, namespace: str) -> None:
    """A create of what exists already answers 403, not 409, when the quota is used up."""
    await _quota(api, namespace, pods="1", persistentvolumeclaims="1")
    (await api.post(path_of("pods", namespace), _pod("a"))).expect()
    (await api.post(path_of("persistentvolumeclaims", namespace), _claim("c", "1Gi"))).expect()
    await _until_used(api, namespace, pods="1", persistentvolumeclaims="1")
    (await api.post(path_of("pods", namespace), _pod("a"))).expect(403)
    again = await api.post(path_of("persistentvolumeclaims", namespace), _claim("c", "1Gi"))
    assert "exceeded quota: team" in again.expect(403)["message"]


async def test_deletion_frees(api: Api, namespace: str) -> None:
    """A deleted pod's share is free again moments after `status.used` says so."""
    await _quota(api, namespace, pods="1")
    (await api.post(path_of("pods", namespace), _pod("a"))).expect()
    await _until_used(api, namespace, pods="1")
    (await api.delete(path_of("pods", namespace, "a"), gracePeriodSeconds=0)).expect()
    await _until_used(api, namespace, pods="0")
    await _until_answers(api, path_of("pods", namespace), _pod("b"), 201)


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
async def test_completion_frees(api: Api, namespace: str, phase: str) -> None:
    """A pod that has ended counts no more, though it is still there."""
    await _quota(api, namespace, **{"pods": "1", "limits.cpu": "1"})
    (await api.post(path_of("pods", namespace), _pod("a", {"cpu": "1"}))).expect()
    ended = {"status": {"phase": phase}}
    (await api.patch(path_of("pods", namespace, "a", "status"), ended)).expect()
    await _until_used(api, namespace, **{"pods": "0", "limits.cpu": "0"})
    await _until_answers(api, path_of("pods", namespace), _pod("b", {"cpu": "1"}), 201)


async def test_storage(api: Api, namespace: str) -> None:
    """Claims count: their number, their storage in all, and both by storage class."""
    hard = {
        "persistentvolumeclaims": "3",
        "requests.storage": "10Gi",
        f"{STORAGE}/requests.storage": "5Gi",
        f"{STORAGE}/persistentvolumeclaims": "2",
    }
    await _quota(api, namespace, **hard)
    claims = path_of("persistentvolumeclaims", namespace)
    (await api.post(claims, _claim("a", "4Gi"))).expect()
    used = {"requests.storage": "4Gi", f"{STORAGE}/requests.storage": "4Gi"}
    await _until_used(api, namespace, **used)
    body = (await api.post(claims, _claim("b", "2Gi"))).expect(403)
    key = f"{STORAGE}/requests.storage"
    assert f"requested: {key}=2Gi, used: {key}=4Gi, limited: {key}=5Gi" in body["message"]
    (await api.post(claims, _claim("b", "6Gi", "other"))).expect()
    await _until_used(api, namespace, **{"requests.storage": "10Gi", "persistentvolumeclaims": "2"})
    (await api.post(claims, _claim("c", "1Mi", "other"))).expect(403)


async def test_a_class_of_their_own_spares_the_teams_storage(api: Api, namespace: str) -> None:
    """A quota by storage class leaves claims of other classes alone."""
    await _quota(api, namespace, **{f"{STORAGE}/requests.storage": "1Gi"})
    claims = path_of("persistentvolumeclaims", namespace)
    (await api.post(claims, _claim("data", "1Ti", "datasets"))).expect()
    (await api.post(claims, _claim("home", "1Gi"))).expect()


async def test_object_counts(api: Api, namespace: str) -> None:
    """`count/secrets`, `secrets` and `count/networkpolicies.networking.k8s.io` count objects."""
    key = "count/networkpolicies.networking.k8s.io"
    await _quota(api, namespace, **{"count/secrets": "1", "secrets": "5", key: "1"})
    secrets, policies = path_of("secrets", namespace), path_of("networkpolicies", namespace)
    policy: dict[str, Any] = {"spec": {"podSelector": {}}}
    (await api.post(secrets, {"metadata": {"name": "a"}})).expect()
    (await api.post(policies, {**policy, "metadata": {"name": "a"}})).expect()
    await _until_used(api, namespace, **{"count/secrets": "1", "secrets": "1", key: "1"})
    body = (await api.post(secrets, {"metadata": {"name": "b"}})).expect(403)
    assert "requested: count/secrets=1, used: count/secrets=1" in body["message"]
    (await api.post(policies, {**policy, "metadata": {"name": "b"}})).expect(403)


async def test_the_root_certificate_counts(api: Api, namespace: str) -> None:
    """A quota on config maps must leave room for `kube-root-ca.crt`."""
    await api.until(path_of("configmaps", namespace, "kube-root-ca.crt"), lambda a: a.code == 200)
    await _quota(api, namespace, **{"count/configmaps": "1"})
    await _until_used(api, namespace, **{"count/configmaps": "1"})
    (await api.post(path_of("configmaps", namespace), {"metadata": {"name": "a"}})).expect(403)


async def test_no_node_ports_or_load_balancers(api: Api, namespace: str) -> None:
    """`services.nodeports: 0` and `services.loadbalancers: 0` leave only Services inside."""
    await _quota(api, namespace, **{"services.nodeports": "0", "services.loadbalancers": "0"})
    services = path_of("services", namespace)
    for kind, code in (("NodePort", 403), ("LoadBalancer", 403), ("ClusterIP", 201)):
        spec = {"type": kind, "ports": [{"port": 80}]}
        body = {"metadata": {"name": kind.lower()}, "spec": spec}
        (await api.post(services, body)).expect(code)


async def test_extended_resources(api: Api, namespace: str) -> None:
    """A quota `requests.nvidia.com/gpu: 0` refuses a GPU, and nothing else."""
    await _quota(api, namespace, **{"requests.nvidia.com/gpu": "0"})
    (await api.post(path_of("pods", namespace), _pod("a"))).expect()
    pod = _pod("b", {"nvidia.com/gpu": "1"})
    body = (await api.post(path_of("pods", namespace), pod)).expect(403)
    assert "requested: requests.nvidia.com/gpu=1" in body["message"]


async def test_ephemeral_storage(api: Api, namespace: str) -> None:
    """`limits.ephemeral-storage` adds up what containers may write on the node."""
    await _quota(api, namespace, **{"limits.ephemeral-storage": "1Gi"})
    pods = path_of("pods", namespace)
    (await api.post(pods, _pod("a", {"ephemeral-storage": "700Mi"}))).expect()
    (await api.post(pods, _pod("b", {"ephemeral-storage": "700Mi"}))).expect(403)


async def test_a_dry_run_is_checked_and_not_counted(api: Api, namespace: str) -> None:
    """A dry run past the quota is refused; one within it takes nothing of it."""
    await _quota(api, namespace, pods="1")
    pods = path_of("pods", namespace)
    (await api.post(pods, _pod("a"), dryRun="All")).expect(201)
    (await api.post(pods, _pod("b"))).expect(201)
    (await api.post(pods, _pod("c"), dryRun="All")).expect(403)
