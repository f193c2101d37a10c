"""Namespaces: how they come and go."""

from __future__ import annotations

from .client import MERGE, Api, path_of

HELD = {"metadata": {"name": "held", "finalizers": ["example.org/held"]}}
NAMESPACES = path_of("namespaces")


def _pod(name: str, **spec: object) -> dict[str, object]:
    container = {"name": "main", "image": "none"}
    return {"metadata": {"name": name}, "spec": {"containers": [container], **spec}}


async def test_a_second_create_is_refused(api: Api, namespace: str) -> None:
    """Creating a namespace that exists answers 409 `AlreadyExists`, with its name in `details`."""
    answer = await api.post(NAMESPACES, {"metadata": {"name": namespace}})
    body = answer.expect(409)
    assert body["kind"] == "Status"
    assert body["reason"] == "AlreadyExists"
    assert body["message"] == f'namespaces "{namespace}" already exists'
    assert body["details"]["name"] == namespace
    assert body["details"]["kind"] == "namespaces"


async def test_default_service_account(api: Api, namespace: str) -> None:
    """Every namespace gets a service account `default`, which comes back when it is deleted."""
    path = path_of("serviceaccounts", namespace, "default")
    uid = (await api.get(path)).expect()["metadata"]["uid"]
    await api.delete(path)
    await api.until(path, lambda a: a.code == 200 and a.body["metadata"]["uid"] != uid)


async def test_root_certificate_is_published(api: Api, namespace: str) -> None:
    """Every namespace gets a config map `kube-root-ca.crt`; a quota on config maps counts it."""
    path = path_of("configmaps", namespace, "kube-root-ca.crt")
    found = await api.until(path, lambda a: a.code == 200)
    assert found.body["data"]["ca.crt"].startswith("-----BEGIN CERTIFICATE-----")


async def test_name_label(api: Api, namespace: str) -> None:
    """A namespace bears its name as the label `kubernetes.io/metadata.name`, for selectors."""
    found = (await api.get(path_of("namespaces", name=namespace))).expect()
    assert found["metadata"]["labels"]["kubernetes.io/metadata.name"] == namespace
    assert found["status"]["phase"] == "Active"


async def test_a_terminating_namespace_takes_nothing_new(api: Api, namespace: str) -> None:
    """In a namespace that is being deleted creates answer 403 with cause `NamespaceTerminating`."""
    configmaps = path_of("configmaps", namespace)
    (await api.post(configmaps, HELD)).expect()
    await api.delete(path_of("namespaces", name=namespace))
    answer = await api.post(configmaps, {"metadata": {"name": "late"}})
    body = answer.expect(403)
    assert body["reason"] == "Forbidden"
    assert "because it is being terminated" in body["message"]
    assert body["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    space = (await api.get(path_of("namespaces", name=namespace))).expect()
    assert space["status"]["phase"] == "Terminating"
    assert space["metadata"]["deletionTimestamp"]
    free = {"metadata": {"finalizers": None}}
    (await api.patch(path_of("configmaps", namespace, "held"), free, MERGE)).expect()
    await api.until_gone(path_of("namespaces", name=namespace))


async def test_deletion_takes_all_content(api: Api, namespace: str) -> None:
    """Deleting a namespace deletes all that is in it; afterwards the name can be used again."""
    for plural, spec in (
        ("configmaps", {}),
        ("secrets", {}),
        ("services", {"ports": [{"port": 1}]}),
    ):
        body = {"metadata": {"name": "thing"}, **({"spec": spec} if spec else {})}
        (await api.post(path_of(plural, namespace), body)).expect()
    (await api.delete(path_of("namespaces", name=namespace))).expect()
    await api.until_gone(path_of("namespaces", name=namespace))
    (await api.get(path_of("configmaps", namespace, "thing"))).expect(404)
    (await api.post(NAMESPACES, {"metadata": {"name": namespace}})).expect()
    (await api.get(path_of("secrets", namespace, "thing"))).expect(404)


async def test_pods_go_before_policies(api: Api, namespace: str) -> None:
    """A namespace's NetworkPolicies outlive its pods: no pod is without them while it ends."""
    deny = {"metadata": {"name": "deny"}, "spec": {"podSelector": {}, "policyTypes": ["Egress"]}}
    (await api.post(path_of("networkpolicies", namespace), deny)).expect()
    pod = _pod("slow", nodeName="nowhere", terminationGracePeriodSeconds=3600)
    (await api.post(path_of("pods", namespace), pod)).expect()
    (await api.delete(path_of("namespaces", name=namespace))).expect()
    pod_path = path_of("pods", namespace, "slow")
    await api.until(pod_path, lambda a: "deletionTimestamp" in a.body["metadata"])
    (await api.get(path_of("networkpolicies", namespace, "deny"))).expect()
    await api.delete(pod_path, gracePeriodSeconds=0)
    await api.until_gone(path_of("namespaces", name=namespace))


async def test_finalizer_holds_a_namespace(api: Api, namespace: str) -> None:
    """A finalizer on the namespace itself keeps it `Terminating` after its content is gone."""
    path = path_of("namespaces", name=namespace)
    (await api.patch(path, {"metadata": {"finalizers": ["example.org/held"]}})).expect()
    (await api.delete(path)).expect()
    await api.until_gone(path_of("serviceaccounts", namespace, "default"))
    assert (await api.get(path)).expect()["status"]["phase"] == "Terminating"
    (await api.patch(path, {"metadata": {"finalizers": None}})).expect()
    await api.until_gone(path)


async def test_creating_in_no_namespace(api: Api) -> None:
    """Creating in a namespace that does not exist answers 404 for the namespace."""
    answer = await api.post(path_of("configmaps", "no-such-place"), {"metadata": {"name": "x"}})
    body = answer.expect(404)
    assert body["message"] == 'namespaces "no-such-place" not found'
    assert body["reason"] == "NotFound"


async def test_bad_names_are_invalid(api: Api) -> None:
    """A name that is not a lowercase RFC 1123 label answers 422 `Invalid` and names the field."""
    body = (await api.post(NAMESPACES, {"metadata": {"name": "Not_A_Label"}})).expect(422)
    assert body["reason"] == "Invalid"
    assert body["details"]["causes"][0]["field"] == "metadata.name"
