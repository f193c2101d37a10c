"""Server-side apply: who owns which field."""

from __future__ import annotations

from typing import Any

from .client import Api, path_of


def _map(name: str = "x", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


async def test_apply_creates(api: Api, namespace: str) -> None:
    """Applying what is not there creates it (201); applying what is there changes it (200)."""
    path = path_of("configmaps", namespace, "x")
    (await api.apply(path, _map(a="1"))).expect(201)
    found = (await api.apply(path, _map(a="2"))).expect(200)
    assert found["data"] == {"a": "2"}


async def test_same_apply_changes_nothing(api: Api, namespace: str) -> None:
    """Applying the same again leaves the resourceVersion as it is: no event, no work."""
    path = path_of("networkpolicies", namespace, "x")
    rule = {"to": [{"podSelector": {"matchLabels": {"a": "b"}}}], "ports": [{"port": 443}]}
    spec = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [rule]}
    version = "networking.k8s.io/v1"
    body = {"apiVersion": version, "kind": "NetworkPolicy", "metadata": {"name": "x"}, "spec": spec}
    first = (await api.apply(path, body)).expect(201)
    again = (await api.apply(path, body)).expect(200)
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_a_manager_is_required(api: Api, namespace: str) -> None:
    """An apply without `fieldManager` is refused (422)."""
    path = path_of("configmaps", namespace, "x")
    answer = await api.request("PATCH", path, _map(), kind="application/apply-patch+yaml")
    answer.expect(422)


async def test_what_is_left_out_goes(api: Api, namespace: str) -> None:
    """A field that I applied and leave out next time is removed; others' fields stay."""
    path = path_of("configmaps", namespace, "x")
    (await api.apply(path, _map(mine="1", also="1"), "me")).expect()
    (await api.apply(path, _map(theirs="1"), "them")).expect()
    found = (await api.apply(path, _map(mine="1"), "me")).expect()
    assert found["data"] == {"mine": "1", "theirs": "1"}


async def test_conflict_with_another_applier(api: Api, namespace: str) -> None:
    """Setting another manager's field otherwise answers 409 and names manager and field."""
    path = path_of("configmaps", namespace, "x")
    (await api.apply(path, _map(a="1"), "them")).expect()
    body = (await api.apply(path, _map(a="2"), "me")).expect(409)
    assert body["reason"] == "Conflict"
    cause = body["details"]["causes"][0]
    assert cause["reason"] == "FieldManagerConflict"
    assert cause["field"] == ".data.a"
    assert 'conflict with "them"' in cause["message"]
    assert (await api.get(path)).expect()["data"] == {"a": "1"}


async def test_conflict_with_an_editor(api: Api, namespace: str) -> None:
    """A field that somebody edited by hand is theirs: applying over it is a conflict, too."""
    path = path_of("configmaps", namespace, "x")
    (await api.apply(path, _map(a="1"), "me")).expect()
    (await api.patch(path, {"data": {"a": "edited"}}, fieldManager="editor")).expect()
    body = (await api.apply(path, _map(a="1"), "me")).expect(409)
    assert 'conflict with "editor"' in body["message"]


async def test_force_takes_over(api: Api, namespace: str) -> None:
    """With `force` the field becomes mine, and the other manager's next apply conflicts."""
    path = path_of("configmaps", namespace, "x")
    (await api.apply(path, _map(a="1"), "them")).expect()
    found = (await api.apply(path, _map(a="2"), "me", force=True)).expect()
    assert found["data"] == {"a": "2"}
    (await api.apply(path, _map(a="1"), "them")).expect(409)


async def test_agreeing_managers_share(api: Api, namespace: str) -> None:
    """Two who apply the same value share the field; it stays until both have left it out."""
    path = path_of("configmaps", namespace, "x")
    (await api.apply(path, _map(a="1"), "them")).expect()
    (await api.apply(path, _map(a="1"), "me")).expect()
    found = (await api.apply(path, _map(), "them")).expect()
    assert found["data"] == {"a": "1"}
    found = (await api.apply(path, _map(), "me")).expect()
    assert not found.get("data")


async def test_labels_of_others_stay(api: Api, namespace: str) -> None:
    """Labels are owned one by one: applying mine leaves what others put there."""
    path = path_of("configmaps", namespace, "x")
    mine = {**_map(), "metadata": {"name": "x", "labels": {"mine": "1", "old": "1"}}}
    (await api.apply(path, mine, "me")).expect()
    (await api.patch(path, {"metadata": {"labels": {"theirs": "1"}}})).expect()
    mine["metadata"]["labels"] = {"mine": "2"}
    found = (await api.apply(path, mine, "me")).expect()
    assert found["metadata"]["labels"] == {"mine": "2", "theirs": "1"}


async def test_policy_rules_are_one_value(api: Api, namespace: str) -> None:
    """The rules and the selector of a NetworkPolicy are each one value: the last apply is all."""
    path = path_of("networkpolicies", namespace, "x")
    head = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "x"},
    }
    for label in ("a", "b"):
        rule = {"from": [{"podSelector": {"matchLabels": {label: "1"}}}]}
        selector = {"matchLabels": {label: "1"}}
        spec = {"podSelector": selector, "policyTypes": ["Ingress"], "ingress": [rule]}
        found = (await api.apply(path, {**head, "spec": spec}, "me")).expect()
        assert found["spec"]["ingress"] == [rule]
        assert found["spec"]["podSelector"] == selector


async def test_containers_are_merged_by_name(api: Api, namespace: str) -> None:
    """Items of a pod's lists are owned by their key: one manager's port leaves another's."""
    path = path_of("services", namespace, "x")
    head = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}}
    for manager, port in (("one", 80), ("two", 81)):
        ports = [{"name": f"p{port}", "port": port, "protocol": "TCP"}]
        body = {**head, "spec": {"ports": ports}}
        found = (await api.apply(path, body, manager)).expect()
    assert sorted(p["port"] for p in found["spec"]["ports"]) == [80, 81]
    found = (await api.apply(path, {**head, "spec": {}}, "one")).expect()
    assert [p["port"] for p in found["spec"]["ports"]] == [81]


async def test_apply_with_a_version(api: Api, namespace: str) -> None:
    """An applied resourceVersion is a precondition: an old one answers 409."""
    path = path_of("configmaps", namespace, "x")
    first = (await api.apply(path, _map(a="1"))).expect()
    (await api.apply(path, _map(a="2"))).expect()
    body = _map(a="3")
    body["metadata"]["resourceVersion"] = first["metadata"]["resourceVersion"]
    (await api.apply(path, body)).expect(409)


async def test_apply_of_a_uid_that_is_gone(api: Api, namespace: str) -> None:
    """An apply with another uid than the live object's, or of none, is refused: none is revived."""
    path = path_of("configmaps", namespace, "x")
    body = _map(a="1")
    body["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000"
    (await api.apply(path, body)).expect(409)
    (await api.get(path)).expect(404)
    (await api.apply(path, _map(a="1"))).expect(201)
    (await api.apply(path, body)).expect(409, 422)


async def test_managed_fields_are_shown(api: Api, namespace: str) -> None:
    """`metadata.managedFields` tells each manager, how it wrote, and its fields."""
    path = path_of("configmaps", namespace, "x")
    (await api.apply(path, _map(a="1"), "me")).expect()
    found = (await api.patch(path, {"data": {"b": "1"}}, fieldManager="editor")).expect()
    entries = {e["manager"]: e for e in found["metadata"]["managedFields"]}
    assert entries["me"]["operation"] == "Apply"
    assert entries["me"]["fieldsV1"] == {"f:data": {"f:a": {}}}
    assert entries["editor"]["operation"] == "Update"
    assert "f:b" in entries["editor"]["fieldsV1"]["f:data"]
