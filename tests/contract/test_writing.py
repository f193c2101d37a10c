"""Create, update, patch and delete."""

from __future__ import annotations

import base64

import pytest

from .client import MERGE, STRATEGIC, Api, path_of


async def _make(api: Api, namespace: str, name: str = "x", **body: object) -> dict[str, object]:
    whole = {"metadata": {"name": name}, **body}
    return (await api.post(path_of("configmaps", namespace), whole)).expect(201)


async def test_what_the_server_sets(api: Api, namespace: str) -> None:
    """A create answers 201 with uid, resourceVersion, creationTimestamp, kind and namespace."""
    body = await _make(api, namespace, data={"k": "v"})
    assert (body["kind"], body["apiVersion"]) == ("ConfigMap", "v1")
    meta = body["metadata"]
    assert isinstance(meta, dict)
    assert len(meta["uid"]) == 36
    assert meta["creationTimestamp"].endswith("Z")
    assert int(meta["resourceVersion"]) > 0
    assert meta["namespace"] == namespace


async def test_another_namespace_in_the_body(api: Api, namespace: str) -> None:
    """A body whose namespace is not the path's answers 400."""
    body = {"metadata": {"name": "x", "namespace": "other"}}
    (await api.post(path_of("configmaps", namespace), body)).expect(400)


async def test_generate_name(api: Api, namespace: str) -> None:
    """`generateName` gives a name that begins so, with five characters more."""
    body = {"metadata": {"generateName": "job-"}}
    names = set()
    for _ in range(3):
        meta = (await api.post(path_of("configmaps", namespace), body)).expect(201)["metadata"]
        names.add(meta["name"])
        assert meta["name"].startswith("job-")
        assert len(meta["name"]) == len("job-") + 5
    assert len(names) == 3


async def test_not_found(api: Api, namespace: str) -> None:
    """Get, patch and delete of what is not there answer 404 `NotFound` with the name."""
    path = path_of("configmaps", namespace, "none")
    for answer in (await api.get(path), await api.patch(path, {}), await api.delete(path)):
        body = answer.expect(404)
        assert body["message"] == 'configmaps "none" not found'
        assert body["details"]["name"] == "none"


async def test_group_in_messages(api: Api, namespace: str) -> None:
    """Messages name kinds of API groups with their group: `networkpolicies.networking.k8s.io`."""
    body = (await api.get(path_of("networkpolicies", namespace, "none"))).expect(404)
    assert body["message"] == 'networkpolicies.networking.k8s.io "none" not found'


async def test_stale_update(api: Api, namespace: str) -> None:
    """A PUT with an old resourceVersion answers 409 `Conflict`; with the newest it works."""
    path = path_of("configmaps", namespace, "x")
    old = await _make(api, namespace)
    new = (await api.put(path, {**old, "data": {"k": "1"}})).expect()
    body = (await api.put(path, {**old, "data": {"k": "2"}})).expect(409)
    assert body["reason"] == "Conflict"
    assert "please apply your changes to the latest version and try again" in body["message"]
    (await api.put(path, {**new, "data": {"k": "3"}})).expect()


async def test_stale_patch(api: Api, namespace: str) -> None:
    """A merge patch with an old resourceVersion in it answers 409; one without is applied."""
    path = path_of("configmaps", namespace, "x")
    old = await _make(api, namespace)
    (await api.patch(path, {"data": {"k": "1"}})).expect()
    (await api.patch(path, {"metadata": old["metadata"], "data": {"k": "2"}})).expect(409)
    assert (await api.get(path)).expect()["data"] == {"k": "1"}


async def test_writes_that_change_nothing(api: Api, namespace: str) -> None:
    """A write that changes nothing leaves the resourceVersion as it is."""
    path = path_of("configmaps", namespace, "x")
    made = await _make(api, namespace, data={"k": "v"})
    same = (await api.patch(path, {"data": {"k": "v"}})).expect()
    assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]  # type: ignore[index]


async def test_merge_patch(api: Api, namespace: str) -> None:
    """A merge patch changes what it names, and null removes."""
    await _make(api, namespace, data={"keep": "1", "change": "1", "drop": "1"})
    patch = {"data": {"change": "2", "drop": None}, "metadata": {"labels": {"a": "b"}}}
    found = (await api.patch(path_of("configmaps", namespace, "x"), patch, MERGE)).expect()
    assert found["data"] == {"keep": "1", "change": "2"}
    assert found["metadata"]["labels"] == {"a": "b"}


async def test_strategic_merge_patch(api: Api, namespace: str) -> None:
    """A strategic merge patch merges lists of named items by their key."""
    ports = [{"name": "a", "port": 1}, {"name": "b", "port": 2}]
    body = {"metadata": {"name": "x"}, "spec": {"clusterIP": "None", "ports": ports}}
    (await api.post(path_of("services", namespace), body)).expect()
    patch = {"spec": {"ports": [{"port": 2, "name": "c"}]}}
    found = (await api.patch(path_of("services", namespace, "x"), patch, STRATEGIC)).expect()
    assert sorted((p["port"], p["name"]) for p in found["spec"]["ports"]) == [(1, "a"), (2, "c")]


async def test_unknown_patch_type(api: Api, namespace: str) -> None:
    """A body of a type that no patch has answers 415."""
    await _make(api, namespace)
    answer = await api.patch(path_of("configmaps", namespace, "x"), {}, "text/plain")
    assert answer.expect(415)["reason"] == "UnsupportedMediaType"


async def test_status_is_a_door_of_its_own(api: Api, namespace: str) -> None:
    """A change of `status` through the object is ignored; through `/status` only it is changed."""
    pod = {"metadata": {"name": "x"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    (await api.post(path_of("pods", namespace), pod)).expect()
    path = path_of("pods", namespace, "x")
    change = {"metadata": {"annotations": {"a": "b"}}, "status": {"message": "told"}}
    found = (await api.patch(path, change)).expect()
    assert "message" not in found["status"]
    assert found["metadata"]["annotations"] == {"a": "b"}
    change = {"metadata": {"labels": {"l": "m"}}, "spec": {"x": 1}, "status": {"message": "told"}}
    found = (await api.patch(path_of("pods", namespace, "x", "status"), change)).expect()
    assert found["status"]["message"] == "told"
    assert "x" not in found["spec"]


async def test_delete_answers(api: Api, namespace: str) -> None:
    """Deleting a config map answers a Success status with the uid; it is gone at once."""
    made = await _make(api, namespace)
    body = (await api.delete(path_of("configmaps", namespace, "x"))).expect(200)
    assert (body["kind"], body["status"]) == ("Status", "Success")
    assert body["details"]["uid"] == made["metadata"]["uid"]  # type: ignore[index]
    (await api.get(path_of("configmaps", namespace, "x"))).expect(404)


@pytest.mark.parametrize("field", ["uid", "resourceVersion"])
async def test_delete_preconditions(api: Api, namespace: str, field: str) -> None:
    """A delete whose uid or resourceVersion is not the object's answers 409 and deletes nothing."""
    path = path_of("configmaps", namespace, "x")
    made = await _make(api, namespace)
    wrong = {"uid": "00000000-0000-0000-0000-000000000000", "resourceVersion": "1"}[field]
    body = (await api.delete(path, {"preconditions": {field: wrong}})).expect(409)
    assert body["reason"] == "Conflict"
    (await api.get(path)).expect()
    right = made["metadata"][field]  # type: ignore[index]
    (await api.delete(path, {"preconditions": {field: right}})).expect()


async def test_wrong_uid_in_an_update(api: Api, namespace: str) -> None:
    """A PUT or patch with another uid is refused: it was meant for an object that is gone."""
    path = path_of("configmaps", namespace, "x")
    await _make(api, namespace)
    wrong = {"name": "x", "uid": "00000000-0000-0000-0000-000000000000"}
    (await api.put(path, {"metadata": wrong, "data": {}})).expect(409)
    (await api.patch(path, {"metadata": wrong, "data": {}})).expect(409, 422)


async def test_finalizers(api: Api, namespace: str) -> None:
    """An object with a finalizer stays, with a deletionTimestamp, until the finalizer is gone."""
    path = path_of("configmaps", namespace, "x")
    body = {"metadata": {"name": "x", "finalizers": ["example.org/held"]}}
    (await api.post(path_of("configmaps", namespace), body)).expect()
    (await api.delete(path)).expect()
    assert (await api.get(path)).expect()["metadata"]["deletionTimestamp"]
    (await api.patch(path, {"metadata": {"finalizers": None}})).expect()
    (await api.get(path)).expect(404)


async def test_dry_run_stores_nothing(api: Api, namespace: str) -> None:
    """`dryRun=All` answers as the real thing would, and stores, changes and deletes nothing."""
    path = path_of("configmaps", namespace, "x")
    head = {"apiVersion": "v1", "kind": "ConfigMap"}
    body = {**head, "metadata": {"name": "x"}, "data": {"k": "v"}}
    dry = (await api.post(path_of("configmaps", namespace), body, dryRun="All")).expect(201)
    assert dry["metadata"]["uid"]
    (await api.get(path)).expect(404)
    (await api.apply(path, body, dryRun="All")).expect(201)
    (await api.get(path)).expect(404)
    made = await _make(api, namespace)
    changed = (await api.patch(path, {"data": {"k": "w"}}, dryRun="All")).expect()
    assert changed["data"] == {"k": "w"}
    (await api.delete(path, dryRun="All")).expect()
    found = (await api.get(path)).expect()
    assert found == made
    (await api.post(path_of("configmaps", namespace), body, dryRun="All")).expect(409)


async def test_secret_string_data(api: Api, namespace: str) -> None:
    """`stringData` of a Secret becomes base64 `data`, and is not shown again."""
    body = {"metadata": {"name": "x"}, "stringData": {"token": "geheim"}}
    (await api.post(path_of("secrets", namespace), body)).expect()
    found = (await api.get(path_of("secrets", namespace, "x"))).expect()
    assert base64.b64decode(found["data"]["token"]) == b"geheim"
    assert "stringData" not in found
    assert found["type"] == "Opaque"


async def test_leases(api: Api, namespace: str) -> None:
    """A Lease is taken by create, and two who renew it at once cannot both succeed."""
    spec = {"holderIdentity": "one", "leaseDurationSeconds": 15}
    body = {"metadata": {"name": "x"}, "spec": spec}
    made = (await api.post(path_of("leases", namespace), body)).expect()
    (await api.post(path_of("leases", namespace), body)).expect(409)
    path = path_of("leases", namespace, "x")
    (await api.put(path, {**made, "spec": {**spec, "holderIdentity": "two"}})).expect()
    (await api.put(path, {**made, "spec": {**spec, "holderIdentity": "three"}})).expect(409)


@pytest.mark.embedded_excused("It has no schemas: unknown fields are stored, not refused.")
async def test_unknown_fields_are_refused(api: Api, namespace: str) -> None:
    """With `fieldValidation=Strict` a misspelt field answers 400 and names the field."""
    spec = {"podSelector": {}, "policyType": ["Egress"]}
    body = {"metadata": {"name": "x"}, "spec": spec}
    answer = await api.post(path_of("networkpolicies", namespace), body, fieldValidation="Strict")
    assert 'unknown field "spec.policyType"' in answer.expect(400)["message"]


@pytest.mark.embedded_excused("It has no schemas: values are checked where its own work needs it.")
async def test_values_are_validated(api: Api, namespace: str) -> None:
    """A value that a kind does not allow answers 422 and names the field."""
    rule = {"to": [{"ipBlock": {"cidr": "10.0.0.0/33"}}]}
    spec = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [rule]}
    body = {"metadata": {"name": "x"}, "spec": spec}
    found = (await api.post(path_of("networkpolicies", namespace), body)).expect(422)
    assert found["details"]["causes"][0]["field"] == "spec.egress[0].to[0].ipBlock.cidr"
