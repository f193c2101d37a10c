"""Lists, selectors, pages and watches."""

from __future__ import annotations

from typing import Any

from .client import Api, path_of

END = "k8s.io/initial-events-end"


async def _make(api: Api, namespace: str, name: str, **labels: str) -> dict[str, object]:
    body = {"metadata": {"name": name, "labels": labels}}
    return (await api.post(path_of("configmaps", namespace), body)).expect()


async def _names(api: Api, namespace: str | None, **query: str | int) -> list[str]:
    found = (await api.get(path_of("configmaps", namespace), **query)).expect()
    return [o["metadata"]["name"] for o in found["items"] if o["metadata"]["name"][:4] != "kube"]


async def test_label_selectors(api: Api, namespace: str) -> None:
    """Label selectors: `=`, `!=`, `in`, `notin`, existence and absence; a comma means and."""
    await _make(api, namespace, "a", team="ocean", tier="big")
    await _make(api, namespace, "b", team="ocean")
    await _make(api, namespace, "c", team="forest")
    for selector, expected in (
        ("team=ocean", ["a", "b"]),
        ("team==forest", ["c"]),
        ("team!=ocean", ["c"]),
        ("team in (ocean, forest),tier", ["a"]),
        ("team notin (forest),!tier", ["b"]),
        ("team,tier!=big", ["b", "c"]),
    ):
        assert await _names(api, namespace, labelSelector=selector) == expected, selector


async def test_a_bad_selector_is_refused(api: Api, namespace: str) -> None:
    """A label selector that cannot be parsed answers 400 `BadRequest`, never everything."""
    answer = await api.get(path_of("configmaps", namespace), labelSelector="team in ocean")
    assert answer.expect(400)["reason"] == "BadRequest"


async def test_field_selectors(api: Api, namespace: str) -> None:
    """Field selectors on `metadata.name` and `metadata.namespace`, equal and not equal."""
    await _make(api, namespace, "a")
    await _make(api, namespace, "b")
    assert await _names(api, namespace, fieldSelector="metadata.name=a") == ["a"]
    assert await _names(api, namespace, fieldSelector="metadata.name!=a") == ["b"]
    selector = f"metadata.namespace={namespace}"
    assert await _names(api, None, fieldSelector=selector) == ["a", "b"]


async def test_pages(api: Api, namespace: str) -> None:
    """`limit` and `continue` page a list in order; an object there all along comes exactly once."""
    for name in "abcde":
        await _make(api, namespace, name, page="yes")
    path = path_of("configmaps", namespace)
    query: dict[str, Any] = {"labelSelector": "page", "limit": 2}
    first = (await api.get(path, **query)).expect()
    await _make(api, namespace, "aa", page="yes")
    await api.delete(path_of("configmaps", namespace, "a"))
    seen = [o["metadata"]["name"] for o in first["items"]]
    token = first["metadata"]["continue"]
    while token:
        page = (await api.get(path, **query, **{"continue": token})).expect()
        seen += [o["metadata"]["name"] for o in page["items"]]
        token = page["metadata"].get("continue")
    assert seen == sorted(seen)
    assert [n for n in seen if n != "aa"] == ["a", "b", "c", "d", "e"]


async def test_a_watch_from_the_first_page_misses_nothing(api: Api, namespace: str) -> None:
    """All pages tell the first page's resourceVersion: a watch from it shows what came after."""
    for name in "abc":
        await _make(api, namespace, name, page="yes")
    path = path_of("configmaps", namespace)
    query: dict[str, Any] = {"labelSelector": "page", "limit": 2}
    first = (await api.get(path, **query)).expect()
    await _make(api, namespace, "aa", page="yes")
    rest = (await api.get(path, **query, **{"continue": first["metadata"]["continue"]})).expect()
    version = rest["metadata"]["resourceVersion"]
    assert version == first["metadata"]["resourceVersion"]
    (event,) = await api.events(path, 1, resourceVersion=version, labelSelector="page")
    assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "aa")


async def test_an_empty_list_has_a_version(api: Api, namespace: str) -> None:
    """An empty list has `items: []`, its kind and a resourceVersion to watch from."""
    found = (await api.get(path_of("pods", namespace))).expect()
    assert found["kind"] == "PodList"
    assert found["items"] == []
    assert int(found["metadata"]["resourceVersion"]) > 0


async def test_watch_replays(api: Api, namespace: str) -> None:
    """A watch from a list's resourceVersion shows each later change once, in order."""
    path = path_of("configmaps", namespace)
    version = (await api.get(path)).expect()["metadata"]["resourceVersion"]
    await _make(api, namespace, "x")
    await api.patch(path_of("configmaps", namespace, "x"), {"data": {"k": "v"}})
    await api.delete(path_of("configmaps", namespace, "x"))
    query = {"resourceVersion": version, "fieldSelector": "metadata.name=x"}
    events = await api.events(path, 3, **query)
    assert [e["type"] for e in events] == ["ADDED", "MODIFIED", "DELETED"]
    versions = [int(e["object"]["metadata"]["resourceVersion"]) for e in events]
    assert versions == sorted(set(versions))
    assert events[1]["object"]["data"] == {"k": "v"}


async def test_watch_without_version(api: Api, namespace: str) -> None:
    """A watch without a resourceVersion begins with an `ADDED` event for each object there is."""
    await _make(api, namespace, "x", seen="yes")
    path = path_of("configmaps", namespace)
    (event,) = await api.events(path, 1, labelSelector="seen")
    assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "x")


async def test_selection_changes_in_a_watch(api: Api, namespace: str) -> None:
    """An object that comes to match a watch's selector is `ADDED`, one that ceases, `DELETED`."""
    await _make(api, namespace, "x", team="ocean")
    path = path_of("configmaps", namespace)
    version = (await api.get(path)).expect()["metadata"]["resourceVersion"]
    for team in ("forest", "ocean"):
        labels = {"metadata": {"labels": {"team": team}}}
        (await api.patch(path_of("configmaps", namespace, "x"), labels)).expect()
    query = {"resourceVersion": version, "labelSelector": "team=forest"}
    events = await api.events(path, 2, **query)
    assert [e["type"] for e in events] == ["ADDED", "DELETED"]


async def test_watch_of_all_namespaces(api: Api, namespace: str) -> None:
    """One watch covers all namespaces; its objects tell theirs."""
    path = path_of("secrets")
    version = (await api.get(path)).expect()["metadata"]["resourceVersion"]
    body = {"metadata": {"name": "x", "labels": {"in": namespace}}}
    (await api.post(path_of("secrets", namespace), body)).expect()
    query = {"resourceVersion": version, "labelSelector": f"in={namespace}"}
    (event,) = await api.events(path, 1, **query)
    assert event["object"]["metadata"]["namespace"] == namespace


async def _collection_with_short_history(api: Api) -> str:
    """A new kind, whose history begins now; the embedded one, which has none, was restarted."""
    names = {"plural": "things", "singular": "thing", "kind": "Thing"}
    schema = {"openAPIV3Schema": {"type": "object"}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    spec = {"group": "contract.test", "names": names, "scope": "Cluster", "versions": [version]}
    body = {"metadata": {"name": "things.contract.test"}, "spec": spec}
    made = await api.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body)
    if made.code == 404:
        return path_of("configmaps")
    path = "/apis/contract.test/v1/things"
    await api.until(path, lambda answer: answer.code == 200)
    return path


async def test_too_old(api: Api) -> None:
    """A watch from before the history gets one `ERROR` event with a Status of code 410."""
    (event,) = await api.events(await _collection_with_short_history(api), 1, resourceVersion="1")
    assert event["type"] == "ERROR"
    assert event["object"]["code"] == 410
    assert event["object"]["reason"] == "Expired"


async def test_bookmarks_after_the_first_state(api: Api, namespace: str) -> None:
    """With `sendInitialEvents` a bookmark marks the end of the first state, with its annotation."""
    await _make(api, namespace, "x")
    events = await api.events(
        path_of("configmaps", namespace),
        3,
        sendInitialEvents="true",
        allowWatchBookmarks="true",
        resourceVersionMatch="NotOlderThan",
    )
    assert [e["type"] for e in events] == ["ADDED", "ADDED", "BOOKMARK"]  # and kube-root-ca.crt
    meta = events[-1]["object"]["metadata"]
    assert meta["annotations"][END] == "true"
    assert int(meta["resourceVersion"]) > 0


async def test_a_bookmark_before_the_end(api: Api, namespace: str) -> None:
    """A watch that asked for bookmarks gets one before its time is up, though it selected nothing:
    the next one can go on from there."""
    path = path_of("secrets", namespace)
    version = (await api.get(path)).expect()["metadata"]["resourceVersion"]
    other = (await api.post(path, {"metadata": {"name": "x"}})).expect()
    query = {"resourceVersion": version, "labelSelector": "none", "timeoutSeconds": "4"}
    for _ in range(3):  # a busy server may miss its last second
        events = await api.events(path, 1, **query, allowWatchBookmarks="true")
        if events:
            break
    (event,) = events
    assert event["type"] == "BOOKMARK"
    reached = int(event["object"]["metadata"]["resourceVersion"])
    assert reached >= int(other["metadata"]["resourceVersion"])


async def test_python_spelling_of_true(api: Api, namespace: str) -> None:
    """`watch=True`, as Python clients write it, is a watch."""
    path = path_of("configmaps", namespace)
    (event,) = await api.events(path, 1, watch="True")
    assert event["type"] == "ADDED"
