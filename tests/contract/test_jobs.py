"""Jobs: what archives of volumes count on. No node runs the pods: the tests say how they end."""

from __future__ import annotations

from typing import Any

from .client import Api, Json, path_of
from .clusters import ContractCluster


def make_job(cluster: ContractCluster, name: str = "copy", *, tries: int = 1) -> Json:
    container = {"name": "main", "image": cluster.image, "command": ["true"]}
    template = {
        "metadata": {"labels": {"contract": "archive"}},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    return {"metadata": {"name": name}, "spec": {"backoffLimit": tries, "template": template}}


async def pods_of(api: Api, namespace: str, count: int) -> list[dict[str, Any]]:
    found = await api.until(
        path_of("pods", namespace), lambda answer: len(answer.body.get("items", ())) == count
    )
    pods = found.body["items"]
    return sorted(pods, key=lambda pod: pod["status"].get("phase", ""))


async def end(api: Api, pod: Json, phase: str) -> None:
    meta = pod["metadata"]
    path = path_of("pods", meta["namespace"], meta["name"], "status")
    (await api.patch(path, {"status": {"phase": phase}})).expect()


def conditions(job: Json) -> set[str]:
    return {c["type"] for c in job.get("status", {}).get("conditions", ()) if c["status"] == "True"}


async def test_a_job_makes_a_pod_that_is_known_as_its_own(
    api: Api, namespace: str, cluster: ContractCluster
) -> None:
    """It bears the template's labels and the Job's name, and the Job owns it."""
    job = (await api.post(path_of("jobs", namespace), make_job(cluster))).expect()
    [pod] = await pods_of(api, namespace, 1)
    labels = pod["metadata"]["labels"]
    assert labels["contract"] == "archive"
    assert labels["batch.kubernetes.io/job-name"] == labels["job-name"] == "copy"
    assert pod["metadata"]["name"].startswith("copy-")
    [owner] = pod["metadata"]["ownerReferences"]
    assert (owner["apiVersion"], owner["kind"], owner["name"]) == ("batch/v1", "Job", "copy")
    assert owner["uid"] == job["metadata"]["uid"]
    assert owner["controller"] is True


async def test_a_job_is_complete_once_its_pod_succeeded(
    api: Api, namespace: str, cluster: ContractCluster
) -> None:
    """`status.succeeded` is 1 and the condition Complete is True; no pod follows."""
    await api.post(path_of("jobs", namespace), make_job(cluster))
    [pod] = await pods_of(api, namespace, 1)
    path = path_of("jobs", namespace, "copy")
    running = await api.until(path, lambda a: a.body.get("status", {}).get("active") == 1)
    assert conditions(running.body) == set()
    await end(api, pod, "Succeeded")
    done = (await api.until(path, lambda a: "Complete" in conditions(a.body))).body
    assert done["status"]["succeeded"] == 1
    assert "completionTime" in done["status"]
    assert not done["status"].get("active")
    await pods_of(api, namespace, 1)


async def test_a_job_tries_again_and_then_fails(
    api: Api, namespace: str, cluster: ContractCluster
) -> None:
    """One pod more for each of `backoffLimit`; then the condition Failed says so."""
    await api.post(path_of("jobs", namespace), make_job(cluster, tries=1))
    for count in (1, 2):
        pods = await pods_of(api, namespace, count)
        [open_pod] = [pod for pod in pods if pod["status"].get("phase") == "Pending"]
        await end(api, open_pod, "Failed")
    path = path_of("jobs", namespace, "copy")
    failed = (await api.until(path, lambda a: "Failed" in conditions(a.body))).body
    assert failed["status"]["failed"] == 2
    [why] = [c["reason"] for c in failed["status"]["conditions"] if c["type"] == "Failed"]
    assert why == "BackoffLimitExceeded"


async def test_pods_and_secrets_of_a_job_go_with_it(
    api: Api, namespace: str, cluster: ContractCluster
) -> None:
    """Deleted in the background, it leaves nothing that it owned."""
    job = (await api.post(path_of("jobs", namespace), make_job(cluster))).expect()
    owner = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": "copy",
        "uid": job["metadata"]["uid"],
    }
    secret = {"metadata": {"name": "copy", "ownerReferences": [owner]}}
    (await api.post(path_of("secrets", namespace), secret)).expect()
    [pod] = await pods_of(api, namespace, 1)
    await end(api, pod, "Succeeded")
    await api.until(path_of("jobs", namespace, "copy"), lambda a: "Complete" in conditions(a.body))
    await api.delete(path_of("jobs", namespace, "copy"), {"propagationPolicy": "Background"})
    await api.until_gone(path_of("secrets", namespace, "copy"))
    await api.until_gone(path_of("pods", namespace, pod["metadata"]["name"]))
    await api.until_gone(path_of("jobs", namespace, "copy"))


async def test_a_job_waits_for_room_in_the_quota(
    api: Api, namespace: str, cluster: ContractCluster
) -> None:
    """It does not fail: it starts once there is room."""
    quota = {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}}
    await api.post(path_of("resourcequotas", namespace), quota)
    path = path_of("resourcequotas", namespace, "q")
    await api.until(path, lambda a: a.body.get("status", {}).get("hard") == {"pods": "0"})
    await api.post(path_of("jobs", namespace), make_job(cluster))
    await api.until(
        path_of("events", namespace),
        lambda a: any(e["reason"] == "FailedCreate" for e in a.body.get("items", ())),
    )
    assert (await api.get(path_of("pods", namespace))).body["items"] == []
    await api.delete(path)
    await pods_of(api, namespace, 1)
